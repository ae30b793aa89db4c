"""One stream of messages, as the code at either end sees it.

The rule: reading gives credit, sending waits for it; both raise what ended the stream. One reader
and one sender at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque

from spear.errors import SpearError
from spear.protocol.connection import Connection
from spear.protocol.streams import Stream


class MessageStream:
    """An async iterator of the other side's messages, with `send` for one's own."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection, self._stream = connection, stream
        self._messages: deque[bytes] = deque()
        self._ended = stream.received_last
        self._finished = False
        self._error: SpearError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._sender: asyncio.Future[None] | None = None

    @property
    def request_id(self) -> int:
        return self._stream.request_id

    def __aiter__(self) -> MessageStream:
        return self

    async def __anext__(self) -> bytes:
        """The next message. What came before an error is still given."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._reader = self._connection.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        self._connection.session.consumed(self._stream, message)
        self._connection.flush_soon()
        return message

    async def send(self, message: bytes, *, last: bool = False) -> None:
        """Sends one message, once the other side has room for it."""
        while self._stream.credit <= 0 and not (self._stream.sent_last or self._finished):
            self._sender = self._connection.loop.create_future()
            try:
                await self._sender
            finally:
                self._sender = None
        if self._connection.write_paused:
            await self._connection.drained()
        if self._error is not None:
            raise self._error
        if self._finished:
            return
        self._connection.session.send_data(self._stream, message, last=last)
        self._connection.flush_soon()

    # Of the connection

    def received(self, message: bytes) -> None:
        self._messages.append(message)
        _wake(self._reader)

    def credited(self) -> None:
        _wake(self._sender)

    def end(self) -> None:
        """No message comes any more; this side may go on."""
        self._ended = True
        _wake(self._reader)

    def finish(self, error: SpearError | None) -> None:
        """Nothing comes or goes any more."""
        if not self._finished:
            self._finished, self._error = True, error
            self.end()
            _wake(self._sender)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)

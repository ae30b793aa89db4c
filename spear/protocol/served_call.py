"""One call or stream of a client that is a task, from its request to its answer.

The rule: it is answered once, however it ends. Prompt calls, which cost no task, are those of
_core/servedcalls.pyx.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from spear.errors import SpearError
from spear.protocol.message_stream import MessageStream
from spear.protocol.session import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.protocol.serving import ServedConnection


class ServedCall:
    """A call or stream under way."""

    __slots__ = (
        "_begun", "_connection", "_doomed", "_ended", "_expired", "_messages", "_task", "_timer",
        "request",
    )  # fmt: skip

    def __init__(self, connection: ServedConnection, request: Call) -> None:
        self._connection, self.request = connection, request
        self._task: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = self._doomed = self._expired = False
        self._ended: asyncio.Future[None] | None = None
        self._messages: MessageStream | None = None
        if request.stream is not None:
            self._messages = MessageStream(connection, request.stream)

    @property
    def identity(self) -> object:
        """What `authorize` gave for the connection."""
        return self._connection.identity

    @property
    def messages(self) -> MessageStream:
        """Of a stream; a unary call has none."""
        if self._messages is None:
            raise RuntimeError("a unary call has no stream")
        return self._messages

    def cancel(self) -> None:
        if self._task is not None and self._begun:
            self._task.cancel()
        else:
            self._doomed = True  # a task cancelled before its first step would never answer

    def lose(self, error: SpearError) -> None:
        """The connection is gone: of a stream nothing comes or goes any more."""
        if self._messages is not None:
            self._messages.finish(error)

    async def ended(self) -> None:
        """Returns once it was answered, or would have been. Who gives up waiting takes nobody
        else's wait."""
        if self._ended is None:
            self._ended = self._connection.loop.create_future()
        await asyncio.shield(self._ended)

    def run(self, answer: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
        if self.request.deadline_ms:
            self._expire_later(loop)
        if isinstance(answer, asyncio.Future):
            self._task, self._begun = answer, True
            answer.add_done_callback(self._done)
        else:
            self._task = loop.create_task(self._run(answer))

    async def _run(self, answer: Awaitable[Any]) -> None:
        """Awaits the handler and answers in the same step: a callback would cost another turn."""
        self._begun = True
        result, error = None, None
        try:
            if self._doomed:
                if isinstance(answer, Coroutine):
                    answer.close()
                raise asyncio.CancelledError
            result = await answer
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        self._end(result, error)

    def _done(self, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled():
            self._end(None, asyncio.CancelledError())
        else:
            error = answer.exception()
            self._end(None if error is not None else answer.result(), error)

    # End

    def _expire_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self.request.deadline_ms / 1000, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self.cancel()

    def _end(self, result: bytes | None, error: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        expired_ms = self.request.deadline_ms if self._expired else 0
        self._connection.answer(self, result, error, expired_ms)

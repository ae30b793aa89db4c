"""One call of a client, from its request to its answer, as the node goes through it.

The rule: it is answered once, however it ends. One whose handler can be begun at once (`Begun`)
costs no task: its coroutine is gone on with here when what it awaits is there. All others are one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import msgspec

from spear.errors import DeadlineExceeded
from spear.protocol.message_stream import MessageStream
from spear.protocol.session import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.protocol.serving import ServedConnection


class Begun(msgspec.Struct, frozen=True):
    """A coroutine that needs no task: it awaits futures of the loop, or coroutines like it, and
    nothing in it asks which task it is in, as timeouts do."""

    coroutine: Coroutine[Any, None, Any]


class ServedCall:
    """A call or stream under way."""

    __slots__ = (
        "_awaited", "_begun", "_connection", "_coroutine", "_doomed", "_ended", "_expired",
        "_messages", "_task", "_timer", "request",
    )  # fmt: skip

    def __init__(self, connection: ServedConnection, request: Call) -> None:
        self._connection, self.request = connection, request
        self._task: asyncio.Future[Any] | None = None
        self._coroutine: Coroutine[Any, None, Any] | None = None
        self._awaited: asyncio.Future[Any] | None = None
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
        """What it awaits is cancelled; it hears of that where it waits, or in its next step."""
        if self._task is not None and self._begun:
            self._task.cancel()
        elif self._awaited is None or not self._awaited.cancel():
            self._doomed = True  # a task cancelled before its first step would never answer

    async def ended(self) -> None:
        """Returns once it was answered, or would have been."""
        if self._ended is None:
            self._ended = self._connection.loop.create_future()
        await self._ended

    # Without a task

    def start(self, coroutine: Coroutine[Any, None, Any]) -> bool:
        """Goes as far as it can; whether it has ended. If not, `go_on` follows."""
        self._coroutine = coroutine
        return self._step(coroutine)

    def go_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """The turn it came in is over: whether it has ended, or else goes on by itself."""
        assert self._coroutine is not None
        awaited = self._awaited
        if (awaited is None or awaited.done() or self._doomed) and self._step(self._coroutine):
            return True
        if self.request.deadline_ms:
            self._expire_later(loop)
        self._wait()
        return False

    def _step(self, coroutine: Coroutine[Any, None, Any]) -> bool:
        try:
            while True:
                if self._doomed:
                    self._doomed = False
                    awaited = coroutine.throw(asyncio.CancelledError())
                else:
                    awaited = coroutine.send(None)
                self._awaited = awaited
                if awaited is None:
                    return False
                awaited._asyncio_future_blocking = False  # as a task says that it has understood
                if self._doomed and awaited.cancel():
                    self._doomed = False
                if not awaited.done():
                    return False
        except StopIteration as ended:
            self._end(ended.value, None)
        except (Exception, asyncio.CancelledError) as error:
            self._end(None, error)
        return True

    def _wait(self) -> None:
        if self._awaited is None:
            self._connection.loop.call_soon(self._resume)
        else:
            self._awaited.add_done_callback(self._resume)

    def _resume(self, _awaited: object = None) -> None:
        assert self._coroutine is not None
        if not self._step(self._coroutine):
            self._wait()

    # As a task

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
        if self._expired and isinstance(error, asyncio.CancelledError):
            error = DeadlineExceeded(
                f"{self.request.path} took more than the {self.request.deadline_ms} ms it was given"
            )
        self._connection.answer(self, result, error)

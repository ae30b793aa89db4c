"""One connection to a model's server: writes a request, hands on its response as it comes.

The rule: one request at a time; it ends by the whole response, by an error that every later read
raises, or by `abort`, which lets the socket go at once. A reader that is slow stops the peer: at
most _BUFFERED_MAX bytes of a body wait, and what one read of the socket brings.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from spear.errors import ModelError, ModelGarbled, ModelUnavailable
from spear.hostcalls.llm.http.pumping import Aside, Pumping
from spear.hostcalls.llm.http.response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear._core.plainstream import PlainStream

_BUFFERED_MAX = 256 * 1024


class Sink(Protocol):
    """Takes a body as it comes, in the loop's turn in which it comes."""

    @property
    def done(self) -> bool:
        """It wants no more."""
        ...

    def take(self, data: bytes) -> bool:
        """Whether it takes more now; if not it is done, or `room` is to be awaited first."""
        ...

    async def room(self) -> None: ...

    def straight(self, bytes_max: int) -> PlainStream | None:
        """Who takes what comes next instead of this, as long as it can, and at most so many bytes.
        Asked where the next byte is the first one of a chunk."""
        ...


class Connection(asyncio.Protocol):
    """`over` is called when the connection is gone, and when a response that nobody reads any more
    has ended. Where a sink has a short way, `pumping` reads the socket meanwhile."""

    def __init__(self, over: Callable[[Connection], None], pumping: Pumping | None = None) -> None:
        self.response: Response | None = None
        self._over = over
        self._failure: ModelError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._paused = self._unread = self._full = False
        self._sink: Sink | None = None  # takes what comes, while its request waits for it
        self._straight: PlainStream | None = None  # is asked before that
        self._aside = Aside(pumping) if pumping is not None else None

    @property
    def closing(self) -> bool:
        """Also where its loop is closed, which is no more its user's then."""
        return self._transport.is_closing() or self._loop.is_closed()

    def begin(self, request: bytes, bytes_max: int) -> Response:
        self.response = Response(bytes_max)
        self._transport.write(request)
        return self.response

    async def head(self) -> None:
        """Until the response has a status. Raises ModelError."""
        assert self.response is not None
        while not self.response.status:
            await self._more()

    async def read(self) -> bytes:
        """Some of the body; empty at its end. Raises ModelError."""
        response = self.response
        assert response is not None
        while not response.buffered:
            if response.complete:
                return b""
            await self._more()
        return self._taken(response)

    async def pour(self, sink: Sink) -> None:
        """All of the body goes into the sink, until that is done. What comes meanwhile goes there
        at once: to wake a task for every chunk would cost more than all else about it. Raises
        ModelError, and what the sink raises."""
        response, self._full = self.response, False
        assert response is not None
        while not sink.done:
            if self._full:
                self._full = False
                await sink.room()
            elif response.buffered:
                self._full = not sink.take(self._taken(response))
            elif response.complete:
                break
            else:
                self._sink = sink
                self._look_ahead(response)
                try:
                    await self._more()
                finally:
                    self._sink = None
                    self._look_back()
                    self._end_aside()

    def fail(self, failure: ModelError) -> None:
        """Ends the request by this error, and the connection with it."""
        if self._failure is None:
            self._failure = failure
        self.abort()
        self._wake()

    def abort(self) -> None:
        if not self._loop.is_closed():  # else it goes with its last reference
            self._end_aside()
            self._transport.abort()

    def drop(self) -> None:
        """Nobody reads on, and it is of no use: lets go of the error too, whose traceback has all
        that was asked."""
        self._failure = None
        self.abort()

    def release(self) -> bool:
        """Nobody reads on: whether the connection can take another request now."""
        response = self.response
        if self.closing or self._failure:
            return False
        if response is None:  # nothing was asked
            return True
        if not (response.complete and response.reusable):
            return False
        if self._transport.get_write_buffer_size():  # answered before all was read
            return False
        self.response, self._unread = None, False
        return True

    def leave(self) -> bool:
        """Nobody reads on, and the end of the response is near: whether it can be waited for."""
        self._unread = not self._paused and not self.closing
        return self._unread

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        if self._straight is None or not self._straight.take(data):
            self._passed(data)

    def _passed(self, data: bytes) -> None:
        """What has no short way."""
        self._look_back()
        response = self.response
        if response is None:  # nobody asked
            self.abort()
            return
        try:
            response.feed(data)
        except ModelGarbled as error:
            self.fail(error)
            return
        if self._sink is not None and response.buffered:
            if self._pour_on(self._sink, response.take()) and not response.complete:
                self._look_ahead(response)
                return
        elif response.buffered > _BUFFERED_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._unread and response.complete:
            self._over(self)
        else:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._break_off(error)
        self._end_aside()  # before another socket has its number
        self._wake()
        self._over(self)

    def _break_off(self, error: Exception | None) -> None:
        """The peer sends no more."""
        response = self.response
        if response is not None and not response.complete and self._failure is None:
            self._failure = _end(response, error)

    def _lost(self, error: OSError) -> None:
        """To the pump: the transport would only find an end."""
        self._break_off(error)
        self.abort()

    def _look_ahead(self, response: Response) -> None:
        """The sink may say who takes what comes next, unless it has just failed."""
        if not response.between or self._sink is None:
            return
        self._straight = self._sink.straight(response.bytes_left)
        if self._aside is not None and self._straight is not None:
            self._aside.begin(self._transport, self._passed, self._wake, self._lost)
            self._aside.straight(self._straight)

    def _look_back(self) -> None:
        straight, self._straight = self._straight, None
        if straight is not None and self.response is not None:
            self.response.passed_by(straight.end())
            if self._aside is not None:
                self._aside.straight(None)

    def _end_aside(self) -> None:
        if self._aside is not None:
            self._aside.end()

    def _pour_on(self, sink: Sink, data: bytes) -> bool:
        """Whether nobody is to be woken for it."""
        try:
            self._full = not sink.take(data)
        except Exception as error:
            self._wake(error)
        return not self._full

    def _taken(self, response: Response) -> bytes:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return response.take()

    def _more(self) -> asyncio.Future[None]:
        """Done when something happened."""
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self, error: Exception | None = None) -> None:
        waiter, self._waiter, self._sink = self._waiter, None, None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
            waiter.exception()  # it is known, also where who waits is cancelled just now


def _end(response: Response, error: Exception | None) -> ModelError | None:
    """What it means that the peer sends no more."""
    why = f": {error}" if error is not None else ""
    if not response.received:
        return ModelUnavailable(f"the connection was closed before an answer came{why}")
    if error is not None:
        return ModelGarbled(f"the answer broke off{why}")
    try:
        response.end()
    except ModelGarbled as broken:
        return broken
    return None

"""A client's end of a framed connection: calls and streams over one socket, many at once.

The rule: a call ends in its answer, an error of the tree, or Lost with the connection; one that its
caller gave up is cancelled at the node, and keeps its place in the window until that has answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from spear._core.askedcalls import AskedCalls
from spear.errors import DeadlineExceeded, SpearError, Unreachable
from spear.protocol import sockets
from spear.protocol.connection import Connection
from spear.protocol.message import Hello
from spear.protocol.message_stream import MessageStream
from spear.protocol.session import (
    PEER,
    Aborted,
    Credited,
    Data,
    Ended,
    Response,
    Session,
    Welcomed,
)
from spear.protocol.status import CODES, error_of_code, error_of_refusal
from spear.protocol.streams import Stream
from spear.protocol.transport import SocketTransport, Transport

HELLO_TIMEOUT_S: Final = 10.0
VERSION: Final = "1"
_INTERNAL: Final = CODES["INTERNAL"]


class Lost(Unreachable):
    """The connection broke, or is closed: nobody knows what became of a call under way."""


class ClientStream(MessageStream):
    """A stream that this side opened: reading it ends, or raises, as the node's answer says. One
    that is not read to its end must be cancelled; `async with` does that."""

    def __init__(self, channel: FrameChannel, stream: Stream) -> None:
        super().__init__(channel, stream)
        self._channel = channel
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> ClientStream:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Tells the node that nobody reads any more; does nothing after the end."""
        self._channel.give_up(self.request_id)
        self.finish(None)

    def expire_in(self, deadline_ms: int) -> None:
        self._timer = self._channel.loop.call_later(deadline_ms / 1000, self._expire, deadline_ms)

    def _expire(self, deadline_ms: int) -> None:
        self._channel.give_up(self.request_id)
        self.finish(_late(deadline_ms))

    def finish(self, error: SpearError | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().finish(error)


class FrameChannel(Connection):
    """A connection to a node; made by `connect` or `over`. `call(path, request, deadline_ms=0)`
    gives the answer of the method `path` (`/package.Service/Method`) to a message; see `ask`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Transport) -> None:
        super().__init__(loop, transport, Session(PEER))
        self._welcomed: asyncio.Future[None] = loop.create_future()
        self._released: asyncio.Future[None] = loop.create_future()
        self._streams: dict[int, ClientStream] = {}
        # Calls beyond the window, first come first served.
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._calls = AskedCalls(self.session, loop, self._waiting, self)
        self._answers = self._calls.answers
        self.call = self._calls.call
        self._cause: SpearError = Lost("the connection is closed")

    @classmethod
    async def connect(cls, address: str, token: str | None = None) -> Self:
        """To a node at `unix:PATH` or `HOST:PORT`. Raises Unreachable, Unauthenticated."""
        sock = await sockets.connect(sockets.parse(address))
        return await cls.over(SocketTransport(asyncio.get_running_loop(), sock), token)

    @classmethod
    async def over(cls, transport: Transport, token: str | None = None) -> Self:
        """To the node at the other end of a transport."""
        channel = cls(asyncio.get_running_loop(), transport)
        transport.start(channel)
        channel.session.hello(Hello(client="spear", version=VERSION, token=token))
        channel.flush_soon()
        try:
            await asyncio.wait_for(channel._welcomed, HELLO_TIMEOUT_S)
        except TimeoutError:
            await channel.close()
            raise Unreachable(f"the node said no welcome in {HELLO_TIMEOUT_S:g} s") from None
        except BaseException:
            await channel.close()
            raise
        return channel

    def handlers(self) -> Mapping[type[Any], Callable[[Any], None]]:
        return {
            Welcomed: self._greeted,
            Response: self._answered,
            Data: self._data,
            Credited: self._credited,
            Aborted: self._aborted,
            Ended: self._node_ended,
        }

    # Asking

    async def ask(self, path: str, request: bytes, deadline_ms: int) -> bytes:
        """As `call`, also where it must wait for its place or has a deadline. `deadline_ms` 0:
        none. Raises the error of the answer's status, DeadlineExceeded, Unreachable."""
        session = self.session
        if self._waiting or len(session.own_requests) >= session.peer_window:
            deadline_ms = await self._place(deadline_ms)
        if self.gone:
            raise self._cause
        request_id = session.call(path.encode("ascii"), deadline_ms, request)
        self.flush_soon(alone=len(session.own_requests) == 1)
        answer: asyncio.Future[bytes] = self.loop.create_future()
        self._answers[request_id] = answer
        timer = None
        if deadline_ms:
            timer = self.loop.call_later(deadline_ms / 1000, self._expire, request_id, deadline_ms)
        try:
            return await answer
        except asyncio.CancelledError:
            self.give_up(request_id)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def stream(
        self, path: str, request: bytes, deadline_ms: int = 0, *, last: bool = True
    ) -> ClientStream:
        """Opens a stream of the method `path` with its first message; `last`: also the only one
        of this side. Errors of the answer are raised where the stream is read."""
        session = self.session
        if self._waiting or len(session.own_requests) >= session.peer_window:
            deadline_ms = await self._place(deadline_ms)
        if self.gone:
            raise self._cause
        flow = session.open_stream(path.encode("ascii"), deadline_ms, request, last=last)
        self.flush_soon()
        made = self._streams[flow.request_id] = ClientStream(self, flow)
        if deadline_ms:
            made.expire_in(deadline_ms)
        return made

    async def _place(self, deadline_ms: int) -> int:
        """Waits for a place in the window; what is left of the deadline."""
        began = self.loop.time()
        try:
            async with asyncio.timeout(deadline_ms / 1000 if deadline_ms else None):
                await self._wait_for_place()
        except TimeoutError:
            raise _late(deadline_ms) from None
        if not deadline_ms:
            return 0
        return max(1, deadline_ms - int((self.loop.time() - began) * 1000))

    async def _wait_for_place(self) -> None:
        first = False  # woken once, and somebody was faster
        while not self.gone and (
            self.session.asked >= self.session.peer_window or (self._waiting and not first)
        ):
            place: asyncio.Future[None] = self.loop.create_future()
            if first:
                self._waiting.appendleft(place)
            else:
                self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place in self._waiting:
                    self._waiting.remove(place)
                else:
                    self._next()  # its turn had come
                raise
            first = True

    def _next(self) -> None:
        """A place in the window is free."""
        if self._waiting:
            self._waiting.popleft().set_result(None)

    def _expire(self, request_id: int, deadline_ms: int) -> None:
        answer = self._answers[request_id]
        if not answer.done():
            answer.set_exception(_late(deadline_ms))
            self.give_up(request_id)

    def give_up(self, request_id: int) -> None:
        """Nobody waits for this any more; the node is told, if it still works on it."""
        self._streams.pop(request_id, None)
        self.session.cancel(request_id)
        self.flush_soon()

    # What comes

    def frames_received(self, frames: list[bytes]) -> None:
        session = self.session
        session.flush_due = True  # what is said meanwhile leaves below
        try:
            self._take(frames)
        finally:
            session.flush_due = False
        if session.outgoing:
            self.flush()

    def _take(self, frames: list[bytes]) -> None:
        calls, index, count = self._calls, 0, len(frames)
        while index < count:
            taken = calls.take(frames, index)
            for _ in range(index, taken if self._waiting else index):
                self._next()
            if taken < count and not self.take_one(frames[taken]):
                break
            index = taken + 1

    def _greeted(self, event: Welcomed) -> None:
        self.start_heartbeats()
        self._calls.window = self.session.peer_window
        if not self._welcomed.done():
            self._welcomed.set_result(None)

    def _answered(self, event: Response) -> None:
        request_id, status, payload = event.request_id, event.status, event.payload
        answer = self._answers.pop(request_id, None)
        if answer is not None:
            if not answer.done():
                if status == 0:
                    answer.set_result(payload)
                else:
                    answer.set_exception(error_of_code(status, payload))
        elif request_id in self._streams:
            error = error_of_code(status, payload) if status else None
            self._streams.pop(request_id).finish(error)
        if self._waiting:
            self._next()

    def _aborted(self, event: Aborted) -> None:
        self._answered(Response(event.request_id, event.code or _INTERNAL, event.payload))

    def _data(self, event: Data) -> None:
        stream = self._streams.get(event.request_id)
        if stream is not None:
            stream.received(event.payload)

    def _credited(self, event: Credited) -> None:
        stream = self._streams.get(event.request_id)
        if stream is not None:
            stream.credited()

    # End

    def _node_ended(self, event: Ended) -> None:
        error: SpearError = Unreachable("the node closed the connection")
        if event.refusal is not None:
            error = error_of_refusal(event.code, event.refusal.reason, event.refusal.message)
        self.finish(error)

    def ended(self, error: SpearError | None) -> None:
        if isinstance(error, Unreachable):
            self._cause = Lost(str(error))
        else:
            self._cause = error or self._cause
        waiting: list[asyncio.Future[Any]] = [self._welcomed, *self._answers.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(self._cause)
        self._answers.clear()
        self._calls.window = 0
        for stream in self._streams.values():
            stream.finish(self._cause)
        self._streams.clear()
        while self._waiting:
            self._next()

    def connection_lost(self, error: SpearError | None) -> None:
        super().connection_lost(error)
        self._released.set_result(None)

    async def close(self) -> None:
        """Ends the connection and what is under way on it; returns when its socket is closed."""
        self.finish(None)
        await asyncio.shield(self._released)


def _late(deadline_ms: int) -> DeadlineExceeded:
    return DeadlineExceeded(f"the node did not answer in the {deadline_ms} ms it was given")

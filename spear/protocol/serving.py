"""One connection of a client, as the node serves it.

The rule: what a connection may have in flight is bounded: beyond the window, or too many bytes, or
while it does not read its answers, no further request is taken, and what it asked for ends with
it. What one call goes through is served_call.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from spear._core.servedcalls import Route, ServedCalls
from spear.errors import (
    DeadlineExceeded,
    NodeClosed,
    SpearError,
    Unauthenticated,
    Unimplemented,
    Unreachable,
)
from spear.protocol.connection import Connection
from spear.protocol.message import Hello, Welcome, is_request
from spear.protocol.served_call import ServedCall
from spear.protocol.session import (
    Aborted,
    Call,
    Cancelled,
    Credited,
    Data,
    Ended,
    Greeted,
    Request,
    Session,
)
from spear.protocol.sockets import Credentials
from spear.protocol.transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.servedcalls import UnderWay

INFLIGHT_BYTES_MAX: Final = 64 << 20
HELLO_TIMEOUT_S: Final = 10.0
FRAMES_AT_ONCE: Final = 32
FRAMES_A_TURN: Final = 256  # of one read, before others have their turn of the loop


class Caller(NamedTuple):
    """Who is at the other end: its `credentials` on a Unix socket, else None."""

    source: str
    credentials: Credentials | None = None


class Turn(Protocol):
    """Told when a connection has requests, and when all that came with them are taken: what they
    have in common is best done once, then."""

    def gather(self) -> None: ...
    def settle(self) -> None: ...


class Handler(Protocol):
    """What answers calls. Both may raise any SpearError; all else is reported, and answered as
    INTERNAL. A call is cancelled when its client gives it up or goes away."""

    def call(
        self, path: str, payload: bytes, deadline_ms: int, call: ServedCall
    ) -> bytes | Awaitable[bytes]: ...

    def stream(
        self, path: str, payload: bytes, deadline_ms: int, call: ServedCall
    ) -> Awaitable[None]:
        """`payload` is the first message; more come and go by `call.messages`."""


class Serving(NamedTuple):
    """What all connections of a server share. `authorize` gives the caller's identity or raises;
    `report` hears of errors that are not of our tree, with the path of the call; `calls` are those
    under way that outlast the turn they came in; `routes` are of prompt methods, by path, whose
    calls the handler does not see."""

    handler: Handler
    authorize: Callable[[Caller, Hello], object]
    report: Callable[[str, BaseException], None]
    calls: set[UnderWay]
    released: Callable[[ServedConnection], None]  # its socket is closed
    hello_timeout_s: float = HELLO_TIMEOUT_S
    inflight_bytes_max: int = INFLIGHT_BYTES_MAX
    turn: Turn | None = None
    routes: Mapping[str, Route] = MappingProxyType({})


class ServedConnection(Connection):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        session: Session,
        caller: Caller,
        serving: Serving,
        heartbeat_ms: int = 0,
    ) -> None:
        super().__init__(loop, transport, session)
        self.caller, self._serving = caller, serving
        self.identity: object = None
        self._served = ServedCalls(
            session, loop, self, serving.routes, serving.calls, session.window,
            serving.inflight_bytes_max, serving.turn,
        )  # fmt: skip
        self._calls = self._served.under_way
        self._held: deque[bytes] = deque()
        self._heartbeat_ms = heartbeat_ms
        self._hello_timer = loop.call_later(serving.hello_timeout_s, self._hello_missed)

    def handlers(self) -> Mapping[type[Any], Callable[[Any], None]]:
        return {
            Greeted: self._greeted,
            Call: self._called,
            Request: self._asked,
            Data: self._data,
            Credited: self._credited,
            Cancelled: self._cancelled,
            Aborted: self._aborted,
            Ended: self._peer_ended,
        }

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._calls)

    # Greeting

    def _hello_missed(self) -> None:
        error = Unauthenticated(f"no hello within {self._serving.hello_timeout_s:g} s")
        self.refuse(error)

    def refuse(self, error: SpearError) -> None:
        self.session.refuse(error)
        self.finish(error)

    def _greeted(self, event: Greeted) -> None:
        self._hello_timer.cancel()
        try:
            self.identity = self._serving.authorize(self.caller, event.hello)
        except SpearError as error:
            return self.refuse(error)
        except Exception as error:
            self._serving.report("hello", error)
            return self.refuse(SpearError("an error inside of the node; its log says more"))
        welcome = Welcome(window=self.session.window, heartbeat_ms=self._heartbeat_ms)
        self.session.welcome(welcome)
        self.start_heartbeats()
        return None

    # Requests

    def frames_received(self, frames: list[bytes]) -> None:
        """In parts, so that the client has answers to work on while the next part is done."""
        if len(frames) <= FRAMES_AT_ONCE and not self._held:
            return self._served.take_part(frames)
        for begin in range(0, min(len(frames), FRAMES_A_TURN), FRAMES_AT_ONCE):
            part = frames[begin : begin + FRAMES_AT_ONCE]
            if self._held:  # in order
                self._held.extend(part)
            else:
                self._served.take_part(part)
        if len(frames) > FRAMES_A_TURN and not self.gone:
            self._held.extend(frames[FRAMES_A_TURN:])
            self.transport.pause_reading()
            self.loop.call_soon(self._take_held)
        return None

    def take_from(self, frames: list[bytes], index: int) -> None:
        """The frames from this one on, which is no plain call or must wait."""
        count = len(frames)
        while index < count:
            if self._served.full and is_request(frames[index]):
                self._held.extend(frames[index:])
                self.transport.pause_reading()
                return
            if not self.take_one(frames[index]):
                return
            index = self._served.take(frames, index + 1)

    def _weigh(self) -> None:
        """Whether the next request waits until something has ended."""
        served = self._served
        served.full = (
            len(self._calls) >= served.window or served.size > served.size_max or self.write_paused
        )
        if self._held and not served.full and not self.gone:
            self.loop.call_soon(self._take_held)

    def _called(self, request: Call) -> None:
        call = ServedCall(self, request)
        try:
            if self._served.draining:
                raise NodeClosed("the node is closing and takes no more calls")
            answer: bytes | Awaitable[Any]
            handler = self._serving.handler
            take = handler.call if request.stream is None else handler.stream
            answer = take(request.path, request.payload, request.deadline_ms, call)
        except Exception as error:
            return self.answer_failed(request.path, request.request_id, error)
        if isinstance(answer, bytes):
            return self.session.respond(request.request_id, answer)
        self._served.add(request.request_id, call, len(request.payload))
        self._serving.calls.add(call)
        call.run(answer, self.loop)
        return None

    def answer(
        self, call: ServedCall, result: bytes | None, error: BaseException | None, expired_ms: int
    ) -> None:
        """The end of a call."""
        request = call.request
        self._served.remove(request.request_id, call, len(request.payload))
        if request.stream is not None:
            call.messages.finish(None)
        if error is None:
            self.session.respond(request.request_id, result or b"")
        else:
            self.answer_failed(request.path, request.request_id, error, expired_ms)
        if not self.gone:
            self.flush_soon(alone=not self._calls)
            self.eased()

    def eased(self) -> None:
        """A call has ended."""
        if self._served.full:
            self._weigh()
        if self._served.draining and not self._calls:
            self.finish(None)

    def answer_failed(
        self, path: str, request_id: int, error: BaseException, expired_ms: int = 0
    ) -> None:
        """Says why a call failed, one that was cancelled after `expired_ms` unless that is 0."""
        if not isinstance(error, (SpearError, asyncio.CancelledError)):
            self._serving.report(path, error)
        if expired_ms and isinstance(error, asyncio.CancelledError):
            error = DeadlineExceeded(f"{path} took more than the {expired_ms} ms it was given")
        self.session.respond_error(request_id, error)

    def _take_held(self) -> None:
        if self.gone or self._served.full or not self._held:
            return
        frames = list(self._held)
        self._held.clear()
        self.frames_received(frames)
        if not self._held:
            self.transport.resume_reading()

    def writing_paused(self) -> None:
        super().writing_paused()
        self._weigh()

    def writing_resumed(self) -> None:
        super().writing_resumed()
        self._weigh()

    def _asked(self, request: Request) -> None:
        error = Unimplemented(f"operation {request.operation} is not for clients")
        self.session.respond_error(request.request_id, error)

    # What comes while a call is under way

    def _data(self, event: Data) -> None:
        call = self._calls.get(event.request_id)
        if isinstance(call, ServedCall):
            call.messages.received(event.payload)
            if event.last:
                call.messages.end()

    def _credited(self, event: Credited) -> None:
        call = self._calls.get(event.request_id)
        if isinstance(call, ServedCall):
            call.messages.credited()

    def _cancelled(self, event: Cancelled | Aborted) -> None:
        call = self._calls.get(event.request_id)
        if call is not None:
            call.cancel()

    _aborted = _cancelled

    # End

    def drain(self) -> None:
        """Answers what is under way, refuses what comes, then closes."""
        self._served.draining = True
        if not self._calls:
            self.finish(None)

    def _peer_ended(self, event: Ended) -> None:
        self.finish(None)

    def ended(self, error: SpearError | None) -> None:
        self._hello_timer.cancel()
        self._held.clear()
        gone = error or Unreachable("the client closed the connection")
        for call in list(self._calls.values()):
            if isinstance(call, ServedCall):
                call.lose(gone)
            call.cancel()

    def connection_lost(self, error: SpearError | None) -> None:
        super().connection_lost(error)
        self._serving.released(self)

"""One connection of a client, as the node serves it.

The rule: what a connection may have in flight is bounded: beyond the window, or too many bytes, or
while it does not read its answers, no further request is taken, and what it asked for ends with
it. What one call goes through is served_call.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from spear.errors import (
    FrameError,
    NodeClosed,
    SpearError,
    Unauthenticated,
    Unimplemented,
    Unreachable,
)
from spear.protocol.connection import Connection
from spear.protocol.message import Hello, Welcome, is_request
from spear.protocol.served_call import Begun, ServedCall
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

INFLIGHT_BYTES_MAX: Final = 64 << 20
HELLO_TIMEOUT_S: Final = 10.0
FRAMES_AT_ONCE: Final = 16
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
    ) -> bytes | Begun | Awaitable[bytes]: ...

    def stream(
        self, path: str, payload: bytes, deadline_ms: int, call: ServedCall
    ) -> Awaitable[None]:
        """`payload` is the first message; more come and go by `call.messages`."""


class Serving(NamedTuple):
    """What all connections of a server share. `authorize` gives the caller's identity or raises;
    `report` hears of errors that are not of our tree, with the path of the call; `calls` are those
    under way that outlast the turn they came in."""

    handler: Handler
    authorize: Callable[[Caller, Hello], object]
    report: Callable[[str, BaseException], None]
    calls: set[ServedCall]
    released: Callable[[ServedConnection], None]  # its socket is closed
    hello_timeout_s: float = HELLO_TIMEOUT_S
    inflight_bytes_max: int = INFLIGHT_BYTES_MAX
    turn: Turn | None = None


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
        self._call_handler = serving.handler.call
        self.identity: object = None
        self._calls: dict[int, ServedCall] = {}
        self._bytes, self._bytes_max, self._full = 0, serving.inflight_bytes_max, False
        self._held: deque[bytes] = deque()
        self._fresh: list[ServedCall] = []  # begun in this turn, and not ended
        self._draining = False
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
        if len(frames) <= FRAMES_AT_ONCE:
            return self._take_part(frames)
        for begin in range(0, min(len(frames), FRAMES_A_TURN), FRAMES_AT_ONCE):
            self._take_part(frames[begin : begin + FRAMES_AT_ONCE])
        if len(frames) > FRAMES_A_TURN and not self.gone:
            self._held.extend(frames[FRAMES_A_TURN:])
            self.transport.pause_reading()
            self.loop.call_soon(self._take_held)
        return None

    def _take_part(self, frames: list[bytes]) -> None:
        self._flush_due = True  # what is said meanwhile leaves below
        turn = self._serving.turn
        if turn is None:
            self.take(frames)
        else:
            turn.gather()
            try:
                self.take(frames)
            finally:
                turn.settle()
        fresh, self._fresh = self._fresh, []
        for call in fresh:
            if not call.go_on(self.loop):
                self._serving.calls.add(call)
        self._flush_due = False
        if self.session.outgoing:
            self._flush()

    def take(self, frames: list[bytes]) -> None:
        if self._held:
            self._held.extend(frames)
            return
        receive, handlers = self.session.receive, self._handlers
        for index, frame in enumerate(frames):
            if self._full and is_request(frame):
                self._held.extend(frames[index:])
                self.transport.pause_reading()
                return
            try:
                event = receive(frame)
            except FrameError as error:
                self._broken(error)
                return
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)

    def _weigh(self) -> None:
        """Whether the next request waits until something has ended."""
        self._full = (
            len(self._calls) >= self.session.window
            or self._bytes > self._bytes_max
            or self.write_paused
        )
        if self._held and not self._full and not self.gone:
            self.loop.call_soon(self._take_held)

    def _called(self, request: Call) -> None:
        call = ServedCall(self, request)
        try:
            if self._draining:
                raise NodeClosed("the node is closing and takes no more calls")
            answer: bytes | Begun | Awaitable[Any]
            if request.stream is None:
                answer = self._call_handler(
                    request.path, request.payload, request.deadline_ms, call
                )
            else:
                answer = self._serving.handler.stream(
                    request.path, request.payload, request.deadline_ms, call
                )
        except Exception as error:
            return self._answer_error(request, error)
        if isinstance(answer, bytes):
            return self.session.respond(request.request_id, answer)
        self._calls[request.request_id] = call
        self._bytes += len(request.payload)
        if len(self._calls) >= self.session.window or self._bytes > self._bytes_max:
            self._full = True
        if isinstance(answer, Begun):
            if not call.start(answer.coroutine):
                self._fresh.append(call)
            return None
        self._serving.calls.add(call)
        call.run(answer, self.loop)
        return None

    def answer(self, call: ServedCall, result: bytes | None, error: BaseException | None) -> None:
        """The end of a call."""
        request = call.request
        self._serving.calls.discard(call)
        del self._calls[request.request_id]
        self._bytes -= len(request.payload)
        if request.stream is not None:
            call.messages.finish(None)
        if error is None:
            self.session.respond(request.request_id, result or b"")
        else:
            self._answer_error(request, error)
        if self.gone:
            return
        self.flush_soon(alone=not self._calls)
        if self._full:
            self._weigh()
        if self._draining and not self._calls:
            self.finish(None)

    def _answer_error(self, request: Call, error: BaseException) -> None:
        if not isinstance(error, (SpearError, asyncio.CancelledError)):
            self._serving.report(request.path, error)
        self.session.respond_error(request.request_id, error)

    def _take_held(self) -> None:
        if self.gone or self._full or not self._held:
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
        if call is not None:
            call.messages.received(event.payload)
            if event.last:
                call.messages.end()

    def _credited(self, event: Credited) -> None:
        call = self._calls.get(event.request_id)
        if call is not None:
            call.messages.credited()

    def _cancelled(self, event: Cancelled | Aborted) -> None:
        call = self._calls.get(event.request_id)
        if call is not None:
            call.cancel()

    _aborted = _cancelled

    # End

    def drain(self) -> None:
        """Answers what is under way, refuses what comes, then closes."""
        self._draining = True
        if not self._calls:
            self.finish(None)

    def _peer_ended(self, event: Ended) -> None:
        self.finish(None)

    def ended(self, error: SpearError | None) -> None:
        self._hello_timer.cancel()
        self._held.clear()
        gone = error or Unreachable("the client closed the connection")
        for call in list(self._calls.values()):
            if call.request.stream is not None:
                call.messages.finish(gone)
            call.cancel()

    def connection_lost(self, error: SpearError | None) -> None:
        super().connection_lost(error)
        self._serving.released(self)

"""One side of a connection, without a socket or a loop: bodies of frames in, events and bodies out.

The rule: STEPS is the table of what may come when; all else ends the connection with an error frame
that says why. Whoever drives a session sends `outgoing` in order, and calls only what the table's
state allows. Both sides are the same class: the host (a node) welcomes, the peer says hello.

Request ids grow on each side (the host's even, the peer's odd), so a frame of a stream that has
ended can be told from one of a stream that never was: the first is late and skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from spear._core.exchange import Exchange
from spear._core.framing import FRAME_BYTES_MAX
from spear.errors import AnswerTooLarge, FrameError, InvalidArgument, SpearError
from spear.protocol import message as wire
from spear.protocol.message import HEADER, HEADER_BYTES, VERSION, Hello, Refusal, Welcome, pack
from spear.protocol.status import CODES, readable, reason_of, status_of
from spear.protocol.streams import Stream

HOST, PEER = "host", "peer"
NEW, OPEN, CLOSED = "new", "open", "closed"
# (role, state) -> type of frame -> method.
STEPS: Final[dict[tuple[str, str], dict[int, str]]] = {
    (HOST, NEW): {wire.HELLO: "_hello"},
    (PEER, NEW): {wire.WELCOME: "_welcome", wire.ERROR: "_error"},
    (HOST, OPEN): {
        wire.REQUEST: "_request",
        wire.RESPONSE: "_response",
        wire.DATA: "_data",
        wire.CREDIT: "_credit",
        wire.ERROR: "_error",
        wire.HEARTBEAT: "_heartbeat",
    },
    (PEER, OPEN): {
        wire.REQUEST: "_request",
        wire.RESPONSE: "_response",
        wire.DATA: "_data",
        wire.CREDIT: "_credit",
        wire.ERROR: "_error",
        wire.HEARTBEAT: "_heartbeat",
        wire.SIGNAL: "_signal",
    },
    (HOST, CLOSED): {},
    (PEER, CLOSED): {},
}
WINDOW: Final = 64
FRAME_BYTES_MIN: Final = 64 << 10
# So many intervals without a word, and the other side is dead.
SILENT_INTERVALS_MAX: Final = 3


class Greeted(msgspec.Struct, frozen=True):
    """Hello came: answer with `welcome` or `refuse`."""

    hello: Hello


class Welcomed(msgspec.Struct, frozen=True):
    welcome: Welcome


class Call(msgspec.Struct, frozen=True):
    """A request 128 or 129 (then `stream` is there): answer with `respond`."""

    request_id: int
    path: str
    deadline_ms: int  # 0: none
    payload: bytes
    stream: Stream | None


class Request(msgspec.Struct, frozen=True):
    """Any other request that wants an answer."""

    request_id: int
    operation: int
    payload: bytes


class Response(msgspec.Struct, frozen=True):
    request_id: int
    status: int
    payload: bytes


class Data(msgspec.Struct, frozen=True):
    request_id: int
    payload: bytes
    last: bool


class Credited(msgspec.Struct, frozen=True):
    """A stream may send again."""

    request_id: int


class Cancelled(msgspec.Struct, frozen=True):
    """The other side wants a request of its own ended; it still gets a response."""

    request_id: int


class Aborted(msgspec.Struct, frozen=True):
    """An error frame ended a request, on both sides, without a response."""

    request_id: int
    code: int
    payload: bytes


class Signalled(msgspec.Struct, frozen=True):
    signal: int


class Ended(msgspec.Struct, frozen=True):
    """The other side closed, in order (no refusal) or because of what it says."""

    code: int = 0
    refusal: Refusal | None = None


Event: TypeAlias = (
    Greeted | Welcomed | Call | Request | Response | Data | Credited | Cancelled | Aborted
    | Signalled | Ended
)  # fmt: skip
Step = Callable[[int, int, int, bytes], Event | None]


class Session(Exchange):
    """State of one side. `window`: requests that the other side may have in flight here;
    `frame_bytes_max`: of a body that is sent. Plain calls and answers may be taken by the methods
    of Exchange instead of `receive`."""

    def __init__(
        self, role: str, *, window: int = WINDOW, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        if frame_bytes_max < FRAME_BYTES_MIN:
            raise InvalidArgument(f"frames of up to {frame_bytes_max} bytes: greetings and errors "
                                  f"need {FRAME_BYTES_MIN}")  # fmt: skip
        self.begin_ids(0 if role == HOST else 1, frame_bytes_max - HEADER_BYTES)
        self.role, self.window, self.peer_window = role, window, WINDOW
        self.heartbeat_ms = 0
        # Requests in flight by id; a stream where the request opened one.
        self.own_requests: dict[int, Stream | None]
        self.other_requests: dict[int, Stream | None]
        self._enter(NEW)

    def _enter(self, state: str) -> None:
        self.state, self.open = state, state == OPEN
        self._steps: dict[int, Step] = {
            kind: getattr(self, name) for kind, name in STEPS[self.role, state].items()
        }

    # In

    def receive(self, frame: bytes) -> Event | None:
        """What the body of one frame means, if anything for the driver. FrameError: the other
        side broke the rules; `outgoing` says so to it, and the session is closed."""
        self.silent = 0
        if len(frame) < HEADER_BYTES:
            return self._short(frame)
        version, kind, flags, code, request_id = HEADER.unpack_from(frame)
        step = self._steps.get(kind)
        if version != VERSION or flags & ~wire.FLAGS_KNOWN or step is None:
            return self._unexpected(version, kind, flags)
        try:
            return step(flags, code, request_id, frame)
        except FrameError as error:
            self.refuse(error)
            raise

    def _short(self, frame: bytes) -> Event | None:
        if self.state == CLOSED:
            return None
        if not frame:
            self.close()
            return Ended()
        raise self._broken(f"a body of {len(frame)} bytes, a header has {HEADER_BYTES}")

    def _unexpected(self, version: int, kind: int, flags: int) -> Event | None:
        if self.state == CLOSED:
            return None  # on its way when we closed
        if version != VERSION:
            raise self._broken(f"version {version} of the protocol, {VERSION} is understood")
        if kind not in wire.TYPES:
            raise self._broken(f"a frame of type {kind}, which version {VERSION} has not")
        if flags & ~wire.FLAGS_KNOWN:
            raise self._broken(f"flags {flags:#x}, of which version {VERSION} has 0xe")
        raise self._broken(f"a frame of type {wire.TYPES[kind]} to a {self.role} that is "
                           f"{self.state}")  # fmt: skip

    def _broken(self, sentence: str) -> FrameError:
        error = FrameError(f"received {sentence}")
        self.refuse(error)
        return error

    def _hello(self, flags: int, code: int, request_id: int, frame: bytes) -> Event:
        return Greeted(wire.greeting(Hello, frame))

    def _welcome(self, flags: int, code: int, request_id: int, frame: bytes) -> Event:
        welcome: Welcome = wire.greeting(Welcome, frame)
        if welcome.window < 1 or welcome.heartbeat_ms < 0:
            raise FrameError(f"received a welcome with window {welcome.window} and "
                             f"heartbeat_ms {welcome.heartbeat_ms}")  # fmt: skip
        self.peer_window, self.heartbeat_ms = welcome.window, welcome.heartbeat_ms
        self._enter(OPEN)
        return Welcomed(welcome)

    def _request(self, flags: int, code: int, request_id: int, frame: bytes) -> Event | None:
        if code == wire.CANCEL:
            target = wire.unpack_cancel(frame)
            return Cancelled(target) if target in self.other_requests else None
        if request_id & 1 == self.parity or request_id <= self.last_answered:
            raise FrameError(
                f"received request {request_id} after "
                f"{self.last_answered}: ids grow, a host's are even, a peer's odd"
            )
        if flags & wire.NO_ANSWER:
            raise FrameError(f"received operation {code} with the flag for no answer; it has one")
        self.last_answered = request_id
        if code == wire.CALL or code == wire.STREAM:
            path, deadline_ms, payload = wire.unpack_call(frame)
            stream = None
            if code == wire.STREAM:
                stream = Stream(request_id, received_last=bool(flags & wire.LAST))
            self.other_requests[request_id] = stream
            return Call(request_id, path, deadline_ms, payload, stream)
        self.other_requests[request_id] = None
        return Request(request_id, code, frame[HEADER_BYTES:])

    def _response(self, flags: int, code: int, request_id: int, frame: bytes) -> Event:
        if request_id not in self.own_requests:
            raise FrameError(f"received an answer to request {request_id}, which is not open")
        del self.own_requests[request_id]
        return Response(request_id, code, frame[HEADER_BYTES:])

    def _data(self, flags: int, code: int, request_id: int, frame: bytes) -> Event | None:
        stream = self._stream(request_id)
        if stream is None:
            return None
        last = bool(flags & wire.LAST)
        stream.received(len(frame), last)
        return Data(request_id, frame[HEADER_BYTES:], last)

    def _credit(self, flags: int, code: int, request_id: int, frame: bytes) -> Event | None:
        stream = self._stream(request_id)
        if stream is None:
            return None
        stream.credited(code)
        return Credited(request_id)

    def _error(self, flags: int, code: int, request_id: int, frame: bytes) -> Event | None:
        if request_id == 0:
            refusal: Refusal = wire.greeting(Refusal, frame)
            self.close()
            return Ended(code, refusal)
        if self.state == NEW:
            raise FrameError("received an error of a request before its welcome")
        requests = self._requests(request_id)
        if request_id not in requests:
            self._stream(request_id)  # late, or of no request at all
            return None
        del requests[request_id]
        return Aborted(request_id, code, frame[HEADER_BYTES:])

    def _heartbeat(self, flags: int, code: int, request_id: int, frame: bytes) -> None:
        pass

    def _signal(self, flags: int, code: int, request_id: int, frame: bytes) -> Event:
        return Signalled(code)

    def _requests(self, request_id: int) -> dict[int, Stream | None]:
        return self.own_requests if request_id & 1 == self.parity else self.other_requests

    def _stream(self, request_id: int) -> Stream | None:
        """The open stream of a frame; None for one that has ended. Raises FrameError."""
        own = request_id & 1 == self.parity
        if request_id > (self.last_asked if own else self.last_answered) or request_id == 0:
            raise FrameError(f"received a stream's frame of request {request_id}, "
                             "which was never made")  # fmt: skip
        requests = self.own_requests if own else self.other_requests
        stream = requests.get(request_id)
        if stream is None and request_id in requests:
            raise FrameError(f"received a stream's frame of request {request_id}, "
                             "which opened none")  # fmt: skip
        return stream

    # Out

    def hello(self, hello: Hello) -> None:
        self.outgoing.append(wire.pack_map(wire.HELLO, hello))

    def welcome(self, welcome: Welcome) -> None:
        self.window, self.heartbeat_ms = welcome.window, welcome.heartbeat_ms
        self._enter(OPEN)
        self.outgoing.append(wire.pack_map(wire.WELCOME, welcome))

    def refuse(self, error: SpearError) -> None:
        """Ends the connection and tells the other side why."""
        if self.state != CLOSED:
            refusal = Refusal(message=readable(str(error)), reason=reason_of(type(error)))
            self.outgoing.append(wire.pack_map(wire.ERROR, refusal, CODES[error.status]))
            self.close()

    def close(self) -> None:
        """Ends the connection in order; requests in flight get no answer any more."""
        if self.state != CLOSED:
            self.outgoing.append(b"")
            self._enter(CLOSED)

    @property
    def asked(self) -> int:
        """Own requests in flight; up to `peer_window` may be."""
        return len(self.own_requests)

    @property
    def answering(self) -> int:
        """The other side's requests in flight."""
        return len(self.other_requests)

    def open_stream(self, path: bytes, deadline_ms: int, payload: bytes, *, last: bool) -> Stream:
        """As `call`, a stream; with `last` the first message is the only one of this side."""
        request = wire.pack_call(path, deadline_ms, payload)
        if len(request) > self.payload_bytes_max:
            raise self.uncallable(path, deadline_ms, payload)
        self.last_asked = request_id = self.last_asked + 2
        stream = self.own_requests[request_id] = Stream(request_id, sent_last=last)
        flags = wire.LAST if last else 0
        self.outgoing.append(pack(wire.REQUEST, flags, wire.STREAM, request_id, request))
        return stream

    def uncallable(self, path: bytes, deadline_ms: int, payload: bytes) -> InvalidArgument:
        request = wire.pack_call(path, deadline_ms, payload)
        return InvalidArgument(
            f"a request of {len(request)} bytes, the limit of one message is "
            f"{self.payload_bytes_max}: send it as a stream"
        )

    def cancel(self, request_id: int) -> None:
        """Asks the other side to end a request; its response still comes."""
        if request_id in self.own_requests and self.state == OPEN:
            self.outgoing.append(wire.pack_cancel(request_id))

    def unanswerable(self, request_id: int, payload: bytes) -> None:
        too_large = AnswerTooLarge(
            f"the answer has {len(payload)} bytes, the limit of one message is "
            f"{self.payload_bytes_max}: of a list ask for fewer at once, for one value as a stream"
        )
        self.respond_error(request_id, too_large)

    def respond_error(self, request_id: int, error: BaseException) -> None:
        status = status_of(error)
        self.respond(request_id, status.SerializeToString(), status.code)

    def send_data(self, stream: Stream, payload: bytes, *, last: bool = False) -> None:
        """Sends one message of a stream; only where `stream.writable`."""
        request_id = stream.request_id
        if self.state != OPEN or self._requests(request_id).get(request_id) is not stream:
            return
        stream.sent(HEADER_BYTES + len(payload), last)
        code = request_id & 0xFFFFFFFF
        self.outgoing.append(pack(wire.DATA, wire.LAST if last else 0, code, request_id, payload))

    def consumed(self, stream: Stream, payload: bytes) -> None:
        """Says that a message of a stream was taken: the other side gets credit for it."""
        credit = stream.taken(HEADER_BYTES + len(payload))
        if credit and self.state == OPEN:
            self.outgoing.append(pack(wire.CREDIT, 0, credit, stream.request_id))

    def signal(self, signal: int) -> None:
        self.outgoing.append(pack(wire.SIGNAL, 0, signal, 0))

    def tick(self) -> bool:
        """Once each `heartbeat_ms`: sends a heartbeat. False: the other side is dead."""
        self.silent += 1
        if self.state == OPEN:
            self.outgoing.append(pack(wire.HEARTBEAT, 0, 0, 0))
        return self.silent <= SILENT_INTERVALS_MAX

"""The body of a frame: a header of 16 bytes and a payload, version 1.

The rule: only layout stands here, as the frame contract has it; what may come when is session.py.
Bad bytes raise FrameError, and nothing is kept of them.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

from spear.errors import FrameError, InvalidArgument

VERSION: Final = 1
# version, type, flags, code, request id
HEADER: Final = struct.Struct("<BBHIQ")
HEADER_BYTES: Final = HEADER.size

HELLO, WELCOME, REQUEST, RESPONSE, SIGNAL, HEARTBEAT, DATA, ERROR, CREDIT = range(1, 10)
TYPES: Final = {
    HELLO: "hello",
    WELCOME: "welcome",
    REQUEST: "request",
    RESPONSE: "response",
    SIGNAL: "signal",
    HEARTBEAT: "heartbeat",
    DATA: "stream data",
    ERROR: "error",
    CREDIT: "credit",
}
# Bit 0 is kept for compression, which version 1 has not.
LAST, NO_ANSWER, DESCRIPTOR = 2, 4, 8
FLAGS_KNOWN: Final = LAST | NO_ANSWER | DESCRIPTOR

# Operations of clients; those of agents are below.
CALL, STREAM, CANCEL = 128, 129, 130

# Greetings are small; what is longer is not read.
GREETING_BYTES_MAX: Final = 16 << 10
PATH_BYTES_MAX: Final = 1024
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
DEADLINE_MS_MAX: Final = (1 << 32) - 1


class Hello(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Who connects: a client says `client`, `version` and `token`, an agent the rest."""

    client: str = ""
    version: str = ""
    token: str | None = None
    secret: str = ""
    sdk: str = ""
    sdk_version: str = ""
    features: tuple[str, ...] = ()
    resume: str | None = None


class Welcome(msgspec.Struct, kw_only=True):
    """The answer of who was connected to. `window`: requests in flight, for each side;
    `heartbeat_ms` 0: no heartbeats."""

    session: str = ""
    features: tuple[str, ...] = ()
    window: int = 64
    heartbeat_ms: int = 0
    resume: str | None = None


class Refusal(msgspec.Struct, kw_only=True):
    """Why a connection ends: the sentence and the reason of an error, as status.py has them;
    `version` is the highest that is understood."""

    message: str = ""
    reason: str = ""
    version: int = VERSION


_encode = msgspec.msgpack.Encoder().encode
_decoders = {kind: msgspec.msgpack.Decoder(kind) for kind in (Hello, Welcome, Refusal)}


def pack(kind: int, flags: int, code: int, request_id: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(VERSION, kind, flags, code, request_id) + payload


def pack_map(kind: int, fields: Hello | Welcome | Refusal, code: int = 0) -> bytes:
    return pack(kind, 0, code, 0, _encode(fields))


def greeting(kind: type[Any], frame: bytes) -> Any:
    """The map in a frame as a `kind` (Hello, Welcome or Refusal); unknown keys are skipped."""
    if len(frame) > HEADER_BYTES + GREETING_BYTES_MAX:
        raise FrameError(
            f"a {kind.__name__.lower()} of {len(frame)} bytes, the limit is {GREETING_BYTES_MAX}"
        )
    try:
        return _decoders[kind].decode(memoryview(frame)[HEADER_BYTES:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a {kind.__name__.lower()} that is no such map: {error}") from error


def pack_call(path: bytes, deadline_ms: int, payload: bytes) -> bytes:
    """What operations 128 and 129 carry. A deadline beyond the field's 49 days is cut to them."""
    if len(path) > PATH_BYTES_MAX or deadline_ms < 0:
        raise InvalidArgument(
            f"a path of {len(path)} bytes and a deadline of {deadline_ms} ms: accepted are "
            f"{PATH_BYTES_MAX} bytes and 0 or more ms"
        )
    if deadline_ms > DEADLINE_MS_MAX:
        deadline_ms = DEADLINE_MS_MAX
    return _U16.pack(len(path)) + path + _U32.pack(deadline_ms) + payload


def unpack_call(frame: bytes) -> tuple[str, int, bytes]:
    """Path, deadline in ms (0: none) and message of a request 128 or 129."""
    size = len(frame)
    end = HEADER_BYTES + 2
    if size >= end:
        end += _U16.unpack_from(frame, HEADER_BYTES)[0]
        if size >= end + 4 and end <= HEADER_BYTES + 2 + PATH_BYTES_MAX:
            try:
                path = str(frame[HEADER_BYTES + 2 : end], "ascii")
            except UnicodeDecodeError:
                raise FrameError("a call whose path is not ASCII") from None
            return path, _U32.unpack_from(frame, end)[0], frame[end + 4 :]
    raise FrameError(f"a call that is cut, or with a path of more than {PATH_BYTES_MAX} bytes")


def is_request(frame: bytes) -> bool:
    """Whether a body is a request that wants an answer."""
    if len(frame) < HEADER_BYTES or frame[1] != REQUEST:
        return False
    return bool(HEADER.unpack_from(frame)[3] != CANCEL)


def pack_cancel(request_id: int) -> bytes:
    return pack(REQUEST, NO_ANSWER, CANCEL, 0, _U64.pack(request_id))


def unpack_cancel(frame: bytes) -> int:
    """The request that operation 130 ends."""
    if len(frame) != HEADER_BYTES + 8:
        raise FrameError(f"a cancel with {len(frame) - HEADER_BYTES} bytes, wanted is an id, 8")
    request_id: int = _U64.unpack_from(frame, HEADER_BYTES)[0]
    return request_id

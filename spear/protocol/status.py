"""Errors as gRPC statuses, and statuses as errors: the same class with the same sentence.

The rule: what is not of our tree crosses as INTERNAL and tells nothing of itself. The class is the
reason of an ErrorInfo in the details, so that programs in any language can tell errors apart.
"""

from __future__ import annotations

import re
from asyncio import CancelledError
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from spear import errors
from spear.errors import SpearError

DOMAIN: Final = "spear"
# A status travels in headers, which are small.
MESSAGE_CHARS_MAX: Final = 2000
_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
CODES: Final = {name: code for code, name in enumerate(_NAMES)}


def reason_of(kind: type[SpearError]) -> str:
    """`QUEUE_FULL` of QueueFull."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


CLASSES: Final = {
    reason_of(kind): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SpearError)
}
# For statuses of servers that are not ours, or newer than this.
BY_CODE: Final[dict[str, type[SpearError]]] = {
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "RESOURCE_EXHAUSTED": errors.QueueFull,
    "ABORTED": errors.Conflict,
    "UNIMPLEMENTED": errors.Unimplemented,
    "UNAVAILABLE": errors.Unreachable,
    "UNAUTHENTICATED": errors.Unauthenticated,
}


def plain_status(code: str, sentence: str) -> Status:
    """A status that is no error of the tree, as UNIMPLEMENTED."""
    return Status(code=CODES[code], message=readable(sentence))


def status_of(error: BaseException) -> Status:
    if isinstance(error, CancelledError):
        return plain_status("CANCELLED", "the call was cancelled")
    if not isinstance(error, SpearError):
        return plain_status("INTERNAL", "an error inside of the node; its log says more")
    made = plain_status(error.status, str(error))
    info = ErrorInfo(reason=reason_of(type(error)), domain=DOMAIN, metadata=_metadata(error))
    made.details.add().Pack(info)
    retry_ms = getattr(error, "retry_after_ms", 0)
    if retry_ms:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_ms)
        made.details.add().Pack(retry)
    return made


def error_of(status: Status) -> SpearError:
    """The error to raise for a status that is not OK."""
    info, retry_ms = _details(status)
    name = _NAMES[status.code] if 0 <= status.code < len(_NAMES) else "UNKNOWN"
    kind = CLASSES.get(info.reason) if info.domain == DOMAIN else None
    if kind is None:
        kind = BY_CODE.get(name, SpearError)
    made = _MAKERS.get(kind, _make)(kind, status.message, dict(info.metadata), retry_ms)
    if made.status != name:
        made.status = name  # type: ignore[misc]  # of this one error
    return made


def error_of_code(code: int, payload: bytes) -> SpearError:
    """The error of a frame whose code is a gRPC code and whose payload should be its Status."""
    status = Status()
    try:
        status.ParseFromString(payload)
    except DecodeError:
        status = Status(message="the peer's status could not be read")
    status.code = code & 0x7FFFFFFF
    return error_of(status)


def error_of_refusal(code: int, reason: str, sentence: str) -> SpearError:
    """The error of an error frame that ended a connection."""
    status = Status(code=code & 0x7FFFFFFF, message=sentence)
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN))
    return error_of(status)


def readable(sentence: str) -> str:
    """Text that every encoding takes, of bounded length."""
    clean = sentence.encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= MESSAGE_CHARS_MAX else clean[: MESSAGE_CHARS_MAX - 3] + "..."


def _metadata(error: SpearError) -> dict[str, str]:
    """What a class knows beside its sentence."""
    if isinstance(error, errors.VersionConflict):
        versions = {"expected": str(error.expected), "actual": str(error.actual)}
        try:
            return {"key": error.key.decode(), **versions}
        except UnicodeDecodeError:
            return {"key_hex": error.key.hex(), **versions}
    if isinstance(error, errors.ModuleLimit):
        return {"key": error.key}
    if isinstance(error, errors.ModelError):
        return {"code": error.code, "backend": error.backend}
    return {}


def _details(status: Status) -> tuple[ErrorInfo, int]:
    """The ErrorInfo and the milliseconds of the RetryInfo, as far as there are any."""
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        for wanted in (info, retry):
            if detail.Is(wanted.DESCRIPTOR):
                try:
                    detail.Unpack(wanted)
                except DecodeError:
                    wanted.Clear()
    return info, max(0, retry.retry_delay.ToMilliseconds())


Maker = Callable[[type[SpearError], str, dict[str, str], int], SpearError]


def _make(kind: type[SpearError], sentence: str, told: dict[str, str], retry_ms: int) -> SpearError:
    made = kind(sentence)
    if isinstance(made, errors.ModelError):
        made.code, made.backend = told.get("code", ""), told.get("backend", "")
    if isinstance(made, errors.ModelUnavailable):
        made.retry_after_ms = retry_ms
    return made


def _make_queue_full(_: object, sentence: str, __: object, retry_ms: int) -> SpearError:
    return errors.QueueFull(sentence, retry_ms)


def _make_module_limit(_: object, sentence: str, told: dict[str, str], __: int) -> SpearError:
    return errors.ModuleLimit(sentence, told.get("key", ""))


def _make_trap(_: object, sentence: str, *__: object) -> SpearError:
    return errors.GuestTrap(SimpleNamespace(message=sentence))


def _make_conflict(_: object, sentence: str, told: dict[str, str], __: int) -> SpearError:
    try:
        key = bytes.fromhex(told["key_hex"]) if "key_hex" in told else told["key"].encode()
        return errors.VersionConflict(key, int(told["expected"]), int(told["actual"]))
    except (KeyError, ValueError):
        return errors.Conflict(sentence)


_MAKERS: Final[dict[type[SpearError], Maker]] = {
    errors.QueueFull: _make_queue_full,
    errors.ModuleLimit: _make_module_limit,
    errors.GuestTrap: _make_trap,
    errors.VersionConflict: _make_conflict,
}

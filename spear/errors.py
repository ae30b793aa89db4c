"""Every error SPEAR raises on purpose, with its gRPC status and whether a retry can help.

One tree; one sentence an error: what was asked, what was found, what to do. A broken invariant is
not in this tree: it raises AssertionError or RuntimeError and ends the task that met it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class SpearError(Exception):
    """Base of all errors raised on purpose. `status` is a gRPC status name."""

    status: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False


class InvalidArgument(SpearError, ValueError):
    """What was asked cannot be done as asked; the sentence names what is accepted."""

    status = "INVALID_ARGUMENT"


class FrameError(InvalidArgument):
    """A peer announced a frame longer than the limit; the stream cannot be trusted further."""


class ObjectError(SpearError):
    """Base of the object store's errors."""


def shown(key: bytes) -> str:
    """A key as sentences have it: text in quotes, what is none as escapes."""
    return repr(key.decode("utf-8", "backslashreplace"))


class ObjectNotFound(ObjectError, KeyError):
    """No object lies under this key."""

    status = "NOT_FOUND"

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would show the repr


class ObjectInUse(ObjectError):
    """The object is referenced or pinned, so it is not deleted without force."""

    status = "FAILED_PRECONDITION"


class VersionConflict(ObjectError):
    """The object is at another version than asked: read again, then decide.

    `key` is the key, `expected` the version asked for (0: must not exist), `actual` the one found
    (0: there is none).
    """

    status = "ABORTED"
    retryable = True

    def __init__(self, key: bytes, expected: int, actual: int) -> None:
        super().__init__(key, expected, actual)
        self.key, self.expected, self.actual = key, expected, actual

    def __str__(self) -> str:
        wanted = "must not exist" if self.expected == 0 else f"was asked at version {self.expected}"
        found = "does not exist" if self.actual == 0 else f"is at version {self.actual}"
        return f"object {shown(self.key)} {wanted} but {found}"


class StoreFull(ObjectError):
    """The byte budget is used up by objects referenced, pinned or held; nothing was lost."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True


class SnapshotExpired(ObjectError):
    """The snapshot outlived its maximum age and was released; take a new one."""

    status = "FAILED_PRECONDITION"
    retryable = True


class QueueFull(SpearError):
    """A bounded queue has no room; come back later, in about `retry_after_ms` where that is known
    (0: it is not)."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True

    def __init__(self, sentence: str, retry_after_ms: int = 0) -> None:
        super().__init__(sentence)
        self.retry_after_ms = retry_after_ms


class ChannelClosed(SpearError):
    """The other side of a channel or stream is gone; what is sent now is read by nobody."""

    status = "FAILED_PRECONDITION"


class EngineUnavailable(SpearError, ImportError):
    """The installed WASM engine is missing, refused or not the one this build knows."""

    status = "FAILED_PRECONDITION"


class ModuleInvalid(InvalidArgument):
    """The bytes are not a module SPEAR can run; the sentence says why."""


class ModuleLimit(SpearError):
    """The module asks for more than its limits allow; `key` is the setting that would allow more,
    where there is one."""

    status = "RESOURCE_EXHAUSTED"

    def __init__(self, sentence: str, key: str = "") -> None:
        super().__init__(sentence)
        self.key = key


class LogUnavailable(SpearError):
    """The log of a task cannot be read or changed where it lies; the sentence says why."""

    status = "UNAVAILABLE"
    retryable = True


class GuestTrap(SpearError):
    """A call into a warm instance did not return; `outcome` says how it ended and where."""

    status = "ABORTED"

    def __init__(self, outcome: object) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return getattr(self.outcome, "message", "") or "the guest exited during a call"


class NodeBusy(SpearError):
    """The node has no room for another guest now."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True


class NodeClosed(SpearError):
    """The node is closed or draining and takes no more work."""

    status = "UNAVAILABLE"
    retryable = True


class NotFound(SpearError):
    """What was named is not known here."""

    status = "NOT_FOUND"


class AlreadyExists(SpearError):
    """The name is taken by something else."""

    status = "ALREADY_EXISTS"


class Conflict(SpearError):
    """What was to be changed is no longer as the caller saw it: read again, then decide."""

    status = "ABORTED"
    retryable = True


class InUse(SpearError):
    """What was to be removed is still needed; the sentence names by what."""

    status = "FAILED_PRECONDITION"


class DeadlineExceeded(SpearError):
    """What was waited for did not come in the time given; it may still come."""

    status = "DEADLINE_EXCEEDED"


class Unauthenticated(SpearError):
    """The caller did not show who it is."""

    status = "UNAUTHENTICATED"


class PermissionDenied(SpearError):
    """The caller is known, and may not do this."""

    status = "PERMISSION_DENIED"


class Unimplemented(SpearError):
    """This build has nothing of the name that was asked for."""

    status = "UNIMPLEMENTED"


class Unreachable(SpearError):
    """The node does not answer: it is not there, or the connection broke."""

    status = "UNAVAILABLE"
    retryable = True


class KvError(SpearError):
    """Base of the metadata store's errors."""

    status = "UNAVAILABLE"


class KvLocked(KvError):
    """Another process has this database open."""

    status = "FAILED_PRECONDITION"


class KvDamaged(KvError):
    """What was read is not what was written."""

    status = "DATA_LOSS"


class KvFull(KvError):
    """The disk has no room: nothing of the batch was kept, and nothing more is taken until there
    is room again."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True


class KvFormat(KvError):
    """The data was written by a newer version of SPEAR than this one."""

    status = "FAILED_PRECONDITION"


class TaskInactive(SpearError):
    """The task takes no new invocations until somebody activates it."""

    status = "FAILED_PRECONDITION"


class KvLagged(KvError):
    """A watcher did not keep up, so changes were dropped for it: read again, then watch anew."""

    status = "ABORTED"
    retryable = True


class AnswerTooLarge(SpearError):
    """An answer is larger than one message may be; what was asked for was done, if it changes
    anything."""

    status = "RESOURCE_EXHAUSTED"


class TooDeep(SpearError):
    """An agent's call would be deeper below the first one than the node allows, as in a cycle of
    agents, or would wait for itself."""

    status = "FAILED_PRECONDITION"


class TooMany(SpearError):
    """An execution has as many calls under way as it may have at once."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True


class ModelError(SpearError):
    """Base of what keeps a model's answer from coming.

    `code` is for programs, as guests see it in an error document; empty where the guest ABI gives
    only a message. `backend` is the one that was asked last, or empty; `http_status` is what it
    answered, 0 where it did not; `reached` that it was sent the request. `calls` and `model_ns` are
    what was used in vain: requests that reached a backend, and the time they took; of `unseen` of
    them nobody knows what else they used. `late`: another try could not begin before the deadline.
    """

    status = "UNAVAILABLE"

    def __init__(
        self, message: str, *, code: str = "", backend: str = "", http_status: int = 0
    ) -> None:
        super().__init__(message)
        self.code, self.backend, self.http_status = code, backend, http_status
        self.reached = self.late = False
        self.calls = self.model_ns = self.unseen = 0


class NoBackend(ModelError):
    """No configured backend can answer this request; the sentence says what each one lacks."""

    status = "FAILED_PRECONDITION"


class ModelRefused(ModelError):
    """A backend refused the request for good (4xx other than 429): another try will not help."""

    status = "INVALID_ARGUMENT"


class ModelUnavailable(ModelError):
    """No backend answered: connections failed, 429 or 5xx, after retries and fail-over.

    `retry_after_ms` is when to come back, as the backend said; 0: it did not.
    """

    retryable = True

    def __init__(
        self, message: str, *, code: str = "", backend: str = "", http_status: int = 0,
        retry_after_ms: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(message, code=code, backend=backend, http_status=http_status)
        self.retry_after_ms = retry_after_ms


class ModelGarbled(ModelError):
    """A backend's answer could not be understood, broke off, or was too large."""

    retryable = True


class ModelTimeout(ModelError):
    """The model did not answer in time."""

    status = "DEADLINE_EXCEEDED"


class BudgetSpent(ModelError):
    """What the execution, or one above it in its tree, may use of models is used up or reserved."""

    status = "RESOURCE_EXHAUSTED"

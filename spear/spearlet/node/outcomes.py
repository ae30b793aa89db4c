"""From what a runtime says of a run to what a record says of its end.

The rule: one place for the codes of errors; see ExecutionError for the list.
"""

from __future__ import annotations

import msgspec

from spear.errors import InvalidArgument, KvError, KvFull, NodeBusy, NodeClosed, NotFound
from spear.records.execution import (
    COMPLETED,
    FAILED,
    TRANSITIONS,
    Execution,
    ExecutionError,
    Frame,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.runtime.interface import Outcome
    from spear.telemetry.redact import Redactor

SPOILT = "internal"  # the cause of what the node itself could not carry to its end


def error_of(outcome: Outcome, timeout_ns: int) -> ExecutionError | None:
    """Why the attempt did not complete; None where it did. `timeout_ns` is what the execution was
    given: its run knows only what was left of that."""
    if outcome.status == COMPLETED:
        return None
    message = outcome.message
    if outcome.cause == "deadline":
        message = f"the guest was stopped at its deadline of {timeout_ns / 1e9:g} s"
    return ExecutionError(
        code=outcome.cause.upper(),
        message=message,
        trap=outcome.trap,
        backtrace=tuple(
            Frame(frame.function, frame.index, frame.offset) for frame in outcome.backtrace
        ),
    )


def unstarted(error: Exception) -> ExecutionError:
    """Why an attempt could not begin."""
    return ExecutionError(code=_code_of(error), message=str(error))


def cancelled(reason: str) -> ExecutionError:
    """While it waited for its guest to begin; one that runs says the rest of this by itself.
    `cancelled` is no reason."""
    why = "" if reason == "cancelled" else f": {reason}"
    return ExecutionError(code="CANCELLED", message=f"the guest was cancelled before it began{why}")


def end(
    execution: Execution, status: str, cause: str, error: ExecutionError | None, output: bytes
) -> None:
    """Its one terminal state. RuntimeError where there is no such step."""
    if status not in TRANSITIONS[execution.status]:
        raise RuntimeError(f"{execution.id} cannot go from {execution.status} to {status}")
    execution.status, execution.cause, execution.error = status, cause, error
    execution.output, execution.output_bytes = output, len(output)


def spoil(execution: Execution, error: Exception, redactor: Redactor) -> None:
    """Its end could not be written down as it was."""
    execution.status, execution.cause = FAILED, SPOILT
    execution.output, execution.output_digest = b"", ""
    sentence = f"its end could not be kept: {type(error).__name__}: {error}"
    execution.error = redacted(ExecutionError(code="INTERNAL", message=sentence), redactor)


def redacted(error: ExecutionError | None, redactor: Redactor) -> ExecutionError | None:
    """Without the secrets that are known."""
    if error is None or not redactor:
        return error
    return msgspec.structs.replace(error, message=redactor.text(error.message))


def _code_of(error: Exception) -> str:
    if isinstance(error, NodeBusy | KvFull):
        return "NODE_BUSY"
    if isinstance(error, NotFound | KvError):
        return "ARTIFACT"
    if isinstance(error, NodeClosed):
        return "CANCELLED"
    return "INVALID_ARGUMENT" if isinstance(error, InvalidArgument) else "INSTANTIATE"

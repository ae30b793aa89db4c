"""Exit codes of the command; the rule: they are part of the contract and stand only here."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.errors import SpearError
    from spear.records.execution import Execution as Record
    from spear.spearlet.execution.execution import Execution

OK = 0
FAILED = 1  # the thing asked about failed
WRONG_USE = 2
NOT_FOUND = 3
REFUSED = 4  # access, conflict
NOT_REACHABLE = 5
NO_ROOM = 6
TIMED_OUT = 124
COULD_NOT = 125  # bad module, bad option, no room
INTERRUPTED = 130
TRAPPED = 134
ENDED = 137  # for another limit, or cancelled

_OF_STATUS = {
    "INVALID_ARGUMENT": WRONG_USE,
    "OUT_OF_RANGE": WRONG_USE,
    "UNIMPLEMENTED": WRONG_USE,
    "NOT_FOUND": NOT_FOUND,
    "ABORTED": REFUSED,
    "ALREADY_EXISTS": REFUSED,
    "FAILED_PRECONDITION": REFUSED,
    "PERMISSION_DENIED": REFUSED,
    "UNAUTHENTICATED": REFUSED,
    "UNAVAILABLE": NOT_REACHABLE,
    "RESOURCE_EXHAUSTED": NO_ROOM,
}
# Causes of ends from outside; every other one is a run that could not be.
_ENDS = frozenset(("deadline", "output_limit", "fuel", "no_memory", "cancelled", "lost"))


def of_error(error: SpearError) -> int:
    """The code with which every verb but `run` ends on an error."""
    return _OF_STATUS.get(error.status, FAILED)


def of_execution(execution: Execution | Record) -> int:
    """The code with which `spear run` ends: the guest's own wherever it has one."""
    if execution.status == "timeout":
        return TIMED_OUT
    if execution.cause == "exit":
        return _low_byte(execution.exit_code or 0)
    if execution.cause == "trap":
        return TRAPPED
    return ENDED if execution.cause in _ENDS else COULD_NOT


def _low_byte(code: int) -> int:
    """What a shell can see of a code; a failure never looks like success."""
    return code & 0xFF or (1 if code else 0)

"""Exit codes of the command; the rule: they are part of the contract and stand only here."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.execution.execution import Execution

OK = 0
FAILED = 1  # the thing asked about failed
WRONG_USE = 2
TIMED_OUT = 124
COULD_NOT = 125  # bad module, bad option, no room
INTERRUPTED = 130
TRAPPED = 134
ENDED = 137  # for another limit, or cancelled


def of_execution(execution: Execution) -> int:
    """The code with which `spear run` ends: the guest's own wherever it has one."""
    if execution.status == "timeout":
        return TIMED_OUT
    if execution.cause == "exit":
        return _low_byte(execution.exit_code or 0)
    return {"trap": TRAPPED, "instantiate": COULD_NOT}.get(execution.cause, ENDED)


def _low_byte(code: int) -> int:
    """What a shell can see of a code; a failure never looks like success."""
    return code & 0xFF or (1 if code else 0)

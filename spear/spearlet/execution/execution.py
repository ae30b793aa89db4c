"""The record of one execution: its states, times, limits and how it ended.

The rule: TRANSITIONS is the one table of states. A record enters exactly one terminal state, once;
a second attempt is a broken invariant (RuntimeError), not an operating error.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spear.records.usage import Usage
    from spear.runtime.interface import Frame, Outcome
    from spear.runtime.invocation import Invocation

PENDING, RUNNING = "pending", "running"
COMPLETED, FAILED, TERMINATED, TIMEOUT = "completed", "failed", "terminated", "timeout"
TRANSITIONS: dict[str, tuple[str, ...]] = {
    PENDING: (RUNNING, FAILED, TERMINATED, TIMEOUT),
    RUNNING: (COMPLETED, FAILED, TERMINATED, TIMEOUT),
    COMPLETED: (),
    FAILED: (),
    TERMINATED: (),
    TIMEOUT: (),
}
STATUSES = tuple(TRANSITIONS)


class ExecutionError:
    """Why an execution did not complete. `code` is EXIT, TRAP, DEADLINE, CANCELLED, OUTPUT_LIMIT,
    INSTANTIATE, FUEL or NO_MEMORY; `trap` the engine's name of the trap, else ""; `backtrace`
    innermost first."""

    __slots__ = ("backtrace", "code", "message", "trap")

    def __init__(self, code: str, message: str, trap: str, backtrace: Sequence[Frame]) -> None:
        self.code, self.message, self.trap, self.backtrace = code, message, trap, backtrace

    def __repr__(self) -> str:
        return f"ExecutionError({self.code}: {self.message})"


class Execution:
    """One execution; complete once `ended`. Times are Unix nanoseconds, 0 where not reached.

    `exit_code` is the guest's own, None where it never exited by itself; `output` all it wrote to
    stdout; `cpu_ns` the time it ran, `fuel` what it used where that was counted; `limits` those
    that held for it; `durability` what the record survives (`volatile`:
    this process only); `usage` what it used of models, None where it asked none.
    """

    __slots__ = (
        "artifact", "cause", "cpu_ns", "created_ns", "durability", "duration_ns", "error",
        "exit_code", "finished_ns", "fuel", "id", "input_bytes", "limits", "log_lines",
        "log_lost", "log_truncated", "memory_bytes", "node_name", "output", "started_ns",
        "status", "task_name", "usage",
    )  # fmt: skip

    def __init__(
        self, id: str, *, task_name: str, node_name: str, artifact: str, created_ns: int,
        invocation: Invocation,
    ) -> None:  # fmt: skip
        self.id, self.task_name, self.node_name, self.artifact = id, task_name, node_name, artifact
        self.status, self.cause, self.durability = PENDING, "", "volatile"
        self.created_ns, self.started_ns, self.finished_ns = created_ns, 0, 0
        self.input_bytes, self.output = len(invocation.stdin), b""
        self.exit_code: int | None = None
        self.error: ExecutionError | None = None
        self.duration_ns = self.memory_bytes = self.log_lines = self.log_lost = 0
        self.log_truncated, self.cpu_ns = False, 0
        self.fuel: int | None = None
        self.usage: Usage | None = None
        self.limits: dict[str, int | None] = {
            "timeout_ns": invocation.timeout_ns,
            "memory_bytes": invocation.memory_bytes_max,
            "output_bytes": invocation.output_bytes_max,
            "log_bytes": invocation.log_bytes_max,
            "fuel": invocation.fuel,
        }

    def __repr__(self) -> str:
        return f"Execution({self.id}, {self.status})"

    @property
    def ended(self) -> bool:
        return not TRANSITIONS[self.status]

    @property
    def completed(self) -> bool:
        return self.status == COMPLETED

    @property
    def tree_usage(self) -> Usage | None:
        """As a node's record has it: nothing is called from here."""
        return self.usage

    def advance(self, status: str) -> None:
        """Enters the next state. RuntimeError where the table has no such step."""
        self._check_step(status)
        self.status = status

    def _check_step(self, status: str) -> None:
        if status not in TRANSITIONS[self.status]:
            raise RuntimeError(f"execution {self.id} cannot go from {self.status} to {status}")

    def finish(self, outcome: Outcome, output: bytes, usage: Usage | None = None) -> None:
        """Keeps what the outcome says and then enters its terminal state, so that another thread
        that sees the end sees all of it."""
        self._check_step(outcome.status)
        self.cause, self.output = outcome.cause, output
        self.exit_code = outcome.exit_code if outcome.cause == "exit" else None
        self.started_ns, self.duration_ns = outcome.started_ns, outcome.duration_ns
        self.finished_ns = outcome.started_ns + outcome.duration_ns
        self.memory_bytes, self.log_lines = outcome.memory_bytes, outcome.log_lines
        self.log_lost, self.log_truncated = outcome.log_lost, outcome.log_truncated
        self.cpu_ns, self.fuel, self.usage = outcome.cpu_ns, outcome.fuel, usage
        if outcome.status != COMPLETED:
            self.error = ExecutionError(
                outcome.cause.upper(), outcome.message, outcome.trap, tuple(outcome.backtrace)
            )
        self.advance(outcome.status)

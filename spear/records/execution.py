"""Executions: one run of a task, from its acceptance to its one terminal state.

The rule: TRANSITIONS is the one table of states. Times are Unix nanoseconds, 0 where not reached;
durations are measured by the monotonic clock.
"""

from __future__ import annotations

import msgspec

from spear.records.usage import Usage

PENDING, RUNNING = "pending", "running"
COMPLETED, FAILED, TERMINATED, TIMEOUT = "completed", "failed", "terminated", "timeout"
TRANSITIONS: dict[str, tuple[str, ...]] = {
    PENDING: (RUNNING, FAILED, TERMINATED, TIMEOUT),
    RUNNING: (PENDING, COMPLETED, FAILED, TERMINATED, TIMEOUT),  # pending again: another attempt
    COMPLETED: (),
    FAILED: (),
    TERMINATED: (),
    TIMEOUT: (),
}
STATUSES = tuple(TRANSITIONS)
TERMINAL = frozenset(status for status, onward in TRANSITIONS.items() if not onward)
DURABILITIES = ("volatile", "crash", "power")


class Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """One frame of a backtrace; `offset` in bytes into the module."""

    function: str = ""
    index: int = 0
    offset: int | None = None


class ExecutionError(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why an execution did not complete. `code` is EXIT, TRAP, DEADLINE, CANCELLED, OUTPUT_LIMIT,
    INSTANTIATE, FUEL, NO_MEMORY, NODE_BUSY, OUTCOME_UNKNOWN (the node died while it ran),
    ARTIFACT (its bytes are gone or damaged), INVALID_ARGUMENT (it cannot be called like this) or
    INTERNAL (a fault of the node)."""

    code: str
    message: str = ""
    trap: str = ""
    backtrace: tuple[Frame, ...] = ()


class Execution(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The record of one execution. `output` is there where it was asked for and is up to 64 KiB,
    a larger one is read as the result `output_digest`. `depth` is 0 for what no agent called; a
    `detached` one goes on when its parent ends. `usage` is what it used of models itself,
    `tree_usage` with all that it called, up to its own end. `durability` is what this record as
    it is now survives: `volatile` (nothing), `crash` (the process's death), `power` (the
    machine's)."""

    id: str
    task_id: str = ""  # empty: run without a registered task
    task_name: str = ""
    task_version: int = 0
    artifact: str = ""
    node_name: str = ""
    invocation_id: str = ""
    session_id: str = ""
    function: str = ""
    mode: str = "sync"  # or async
    priority: str = "normal"
    idempotency_key: str = ""
    parent_id: str = ""
    root_id: str = ""
    status: str = PENDING
    cause: str = ""
    durability: str = "volatile"
    attempt: int = 1
    instance_id: str = ""
    created_ns: int = 0
    started_ns: int = 0  # of the last attempt
    finished_ns: int = 0
    next_attempt_ns: int = 0  # while it waits to be tried again
    duration_ns: int = 0
    cpu_ns: int = 0
    timeout_ns: int = 0
    memory_bytes: int = 0
    fuel: int | None = None
    exit_code: int | None = None
    value: tuple[int | float, ...] = ()  # what a reactor's function returned
    input_bytes: int = 0
    output_bytes: int = 0
    content_type: str = ""  # of the input, as its caller said
    output: bytes = b""
    output_digest: str = ""
    log_lines: int = 0
    log_lost: int = 0
    log_truncated: bool = False
    error: ExecutionError | None = None
    metadata: dict[str, str] = {}
    usage: Usage | None = None
    tree_usage: Usage | None = None
    depth: int = 0
    detached: bool = False

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def completed(self) -> bool:
        return self.status == COMPLETED


class Invocation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one call of a task adds to its spec; what is empty or 0 comes from there."""

    function: str = ""
    call_args: tuple[int | float, ...] = ()  # of a reactor's exported function
    args: tuple[str, ...] | None = None  # None: the task's
    env: dict[str, str] = {}  # over the task's
    content_type: str = ""
    timeout_ns: int = 0
    priority: str = ""
    idempotency_key: str = ""
    invocation_id: str = ""
    execution_id: str = ""  # chosen by the caller; a UUID
    session_id: str = ""
    parent_id: str = ""
    fresh_instance: bool = False
    metadata: dict[str, str] = {}
    webhook: str = ""


NOTHING = Invocation()  # of a call that adds nothing; known by identity, so nothing is looked at


class ExecutionPage(msgspec.Struct, frozen=True):
    """Executions from the newest on, and the token of what follows ("" at the end)."""

    executions: tuple[Execution, ...]
    next_page_token: str = ""


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line; `seq` counts an execution's lines from 1; `level` trace to error; `stream` log,
    stdout, stderr or system."""

    execution_id: str
    seq: int
    time_ms: int
    level: str = "info"
    stream: str = "log"
    message: str = ""
    task: str = ""
    instance_id: str = ""


class Instance(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The environment that runs executions; `status` creating, ready, running, terminating,
    terminated or failed."""

    id: str
    task_id: str
    task_name: str
    node_name: str
    status: str
    created_ns: int = 0
    used_ns: int = 0
    executions: int = 0  # it has run
    execution_id: str = ""  # it runs now

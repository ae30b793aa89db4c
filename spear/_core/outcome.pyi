"""What Python sees of a run: log lines, frames, outcome; see outcome.pyx."""

from typing import final

STATUS_COMPLETED: str  # "completed"
STATUS_FAILED: str  # "failed"
STATUS_TERMINATED: str  # "terminated"
STATUS_TIMEOUT: str  # "timeout"

@final
class LogLine:
    """One line a guest logged: `seq` from 1, `time_ms` Unix, `level` 0-4, `stream`, `message`."""

    seq: int
    time_ms: int
    level: int
    stream: str  # "log", "stdout" or "stderr"
    message: str

@final
class Frame:
    """One frame of a backtrace, innermost first."""

    function: str  # the guest's name for it, or "<function N>"
    index: int
    offset: int | None  # bytes into the module, where the engine knows it

@final
class Outcome:
    """How an execution ended; every field is final."""

    status: str  # completed, failed, terminated, timeout
    cause: str  # exit, trap, deadline, cancelled, output_limit, instantiate, fuel, no_memory
    exit_code: int  # the guest's own; -1 where it never exited by itself
    message: str  # one sentence, "" when completed
    trap: str  # the trap's name as the engine has it, else ""
    backtrace: tuple[Frame, ...]
    started_ns: int  # Unix time
    duration_ns: int
    cpu_ns: int  # spent in its slices; 0 for calls in place
    fuel: int | None  # used; None where its module does not count it
    memory_bytes: int  # linear memory at the end
    log_lines: int
    log_lost: int  # lines that left the ring unread
    log_truncated: bool
    output_bytes: int

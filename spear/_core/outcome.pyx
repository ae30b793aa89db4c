"""What Python sees of a guest record: log lines, frames, and how the run ended.

Rule: reads a record that nobody changes any more (log entries: ones that were taken from the ring)
and copies; nothing here waits or decides.
"""

from spear._core.guest cimport *

STATUS_COMPLETED = "completed"
STATUS_FAILED = "failed"
STATUS_TERMINATED = "terminated"
STATUS_TIMEOUT = "timeout"

cdef tuple _STREAMS = ("log", "stdout", "stderr")
cdef dict _CAUSES = {
    CAUSE_EXIT: "exit", CAUSE_TRAP: "trap", CAUSE_DEADLINE: "deadline",
    CAUSE_CANCELLED: "cancelled", CAUSE_OUTPUT: "output_limit",
    CAUSE_INSTANTIATE: "instantiate", CAUSE_MEMORY: "no_memory", CAUSE_FUEL: "fuel",
}
# Trap codes of the engine that core modules can meet.
cdef dict _TRAPS = {
    0: "call stack exhausted",
    1: "out of bounds memory access",
    2: "misaligned memory access",
    3: "out of bounds table access",
    4: "call of a null table entry",
    5: "call with a wrong signature",
    6: "integer overflow",
    7: "integer division by zero",
    8: "invalid conversion to integer",
    9: "unreachable code reached",
    10: "interrupted",
    11: "out of fuel",
    12: "atomic wait on unshared memory",
    13: "null reference",
}


class LogLine:
    """One line a guest logged; see executor.pyi."""

    __slots__ = ("level", "message", "seq", "stream", "time_ms")

    def __init__(self, seq, time_ms, level, stream, message):
        self.seq, self.time_ms, self.level = seq, time_ms, level
        self.stream, self.message = stream, message

    def __repr__(self):
        return f"LogLine({self.seq}, {self.stream}, {self.level}, {self.message!r})"


class Frame:
    """One frame of a backtrace; see executor.pyi."""

    __slots__ = ("function", "index", "offset")

    def __init__(self, function, index, offset):
        self.function, self.index, self.offset = function, index, offset

    def __repr__(self):
        where = "" if self.offset is None else f", offset {self.offset:#x}"
        return f"{self.function} (function {self.index}{where})"


class Outcome:
    """How a run ended; see executor.pyi."""

    __slots__ = (
        "backtrace", "cause", "cpu_ns", "duration_ns", "exit_code", "fuel", "log_lines",
        "log_lost", "log_truncated", "memory_bytes", "message", "output_bytes", "started_ns",
        "status", "trap",
    )

    def __repr__(self):
        return f"<Outcome {self.status} {self.cause} exit_code={self.exit_code} {self.message!r}>"


cdef str _text(const char *data, size_t size):
    return data[:size].decode("utf-8", "replace")


cdef object line_of(const log_entry *entry):
    return LogLine(entry.seq, entry.time_ms, entry.level, _STREAMS[entry.stream],
                   _text(entry.text, entry.size))


cdef object _frame(const trace_frame *frame):
    offset = None if frame.offset == <uint64_t>-1 else frame.offset
    if frame.name == NULL:
        return Frame(f"<function {frame.index}>", frame.index, offset)
    return Frame(frame.name.decode("utf-8", "replace"), frame.index, offset)


cdef str cause_name(int cause):
    return _CAUSES[cause]


cdef str _status(guest_t *guest):
    if guest.cause == CAUSE_EXIT:
        return STATUS_COMPLETED if guest.exit_code == 0 else STATUS_FAILED
    if guest.cause == CAUSE_DEADLINE:
        return STATUS_TIMEOUT
    return STATUS_TERMINATED if guest.cause == CAUSE_CANCELLED else STATUS_FAILED


cdef str _engine_message(guest_t *guest):
    """The last cause the engine gives, without its own backtrace."""
    if guest.message == NULL:
        return ""
    lines = guest.message.decode("utf-8", "replace").strip().splitlines()
    return lines[len(lines) - 1].strip() if lines else ""


cdef str _message(guest_t *guest, str trap, str reason, limits):
    timeout_ns, output_bytes, fuel = limits
    if guest.cause == CAUSE_EXIT:
        return "" if guest.exit_code == 0 else f"the guest exited with code {guest.exit_code}"
    if guest.cause == CAUSE_TRAP:
        return f"the guest trapped: {trap or _engine_message(guest)}"
    if guest.cause == CAUSE_DEADLINE:
        return f"the guest was stopped at its deadline of {timeout_ns / 1e9:g} s"
    if guest.cause == CAUSE_CANCELLED:
        return f"the guest was cancelled{': ' + reason if reason else ''}"
    if guest.cause == CAUSE_OUTPUT:
        return f"the guest wrote more than its output limit of {output_bytes} bytes"
    if guest.cause == CAUSE_FUEL:
        return f"the guest used up its fuel of {fuel if fuel is not None else guest.fuel_max}"
    if guest.cause == CAUSE_INSTANTIATE:
        return f"the module could not be instantiated: {_engine_message(guest) or trap}"
    return "the host had no memory left for the guest"


cdef bint completed(guest_t *guest) noexcept:
    return guest.cause == CAUSE_EXIT and guest.exit_code == 0


cdef int fill_record(guest_t *guest, record) except -1:
    cdef int64_t duration_ns = guest.ended_ns - guest.began_ns
    record.started_ns, record.duration_ns = guest.started_ns, duration_ns
    record.finished_ns = guest.started_ns + duration_ns
    record.cpu_ns, record.memory_bytes = guest.cpu_ns, guest.memory_bytes
    record.fuel = guest_fuel_used(guest) if guest.metered else None
    record.log_lines, record.log_lost = guest.log_lines, guest.log_lost
    record.log_truncated = bool(guest.log_truncated)
    record.exit_code = guest.exit_code if guest.cause == CAUSE_EXIT else None
    return 0


cdef object outcome_of(guest_t *guest, str reason, limits):
    trap = ""
    if guest.cause == CAUSE_TRAP or guest.cause == CAUSE_INSTANTIATE:
        trap = _TRAPS.get(guest.trap_code, "") if guest.trap_code >= 0 else _engine_message(guest)
    outcome = Outcome()
    outcome.status, outcome.cause = _status(guest), _CAUSES[guest.cause]
    outcome.exit_code = guest.exit_code if guest.cause == CAUSE_EXIT else -1
    outcome.trap = trap if guest.cause == CAUSE_TRAP else ""
    outcome.message = _message(guest, trap, reason, limits)
    outcome.backtrace = tuple(_frame(&guest.frames[i]) for i in range(guest.frame_count))
    outcome.started_ns, outcome.duration_ns = guest.started_ns, guest.ended_ns - guest.began_ns
    outcome.cpu_ns = guest.cpu_ns
    outcome.fuel = guest_fuel_used(guest) if guest.metered else None
    outcome.memory_bytes, outcome.output_bytes = guest.memory_bytes, guest.output.size
    outcome.log_lines, outcome.log_lost = guest.log_lines, guest.log_lost
    outcome.log_truncated = bool(guest.log_truncated)
    return outcome

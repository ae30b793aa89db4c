"""What many runs of one module came to: counts, latencies, the first failures; as text and as JSON.

The rule: pure, and bounded: a number a run is kept (its latency), and of the failed runs the first
few. Latencies are of all runs that ended, however they did.
"""

from __future__ import annotations

from array import array

from spear.cli import document, exits
from spear.cli.screens.words import length
from spear.config import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from spear.records.usage import Usage
    from spear.runtime.interface import LogLine, Program
    from spear.spearlet.execution.execution import Execution

FAILURES_SHOWN_MAX, LOG_LINES_SHOWN_MAX = 3, 5
_STATUSES = ("completed", "failed", "terminated", "timeout")
_RANKS = (("p50", 50), ("p90", 90), ("p99", 99))


def latencies(durations: Sequence[int]) -> dict[str, int]:
    """min, p50, p90, p99 and max; a percentile is the least value that so many per cent of all
    values do not exceed (nearest rank). Of nothing, zeros."""
    ordered = sorted(durations) or [0]
    count = len(ordered)
    found = {name: ordered[-(-count * rank // 100) - 1] for name, rank in _RANKS}
    return {"min": ordered[0], **found, "max": ordered[-1]}


class Failure:
    """A run that did not complete, and the last it logged."""

    __slots__ = ("execution", "logs", "number")

    def __init__(self, number: int, execution: Execution, logs: Sequence[LogLine]) -> None:
        self.number, self.execution, self.logs = number, execution, logs


class Tally:
    """Grows by one run at a time. `count` runs are asked for, `parallel` at a time."""

    def __init__(self, count: int, parallel: int) -> None:
        self.count, self.parallel = count, parallel
        self.statuses = dict.fromkeys(_STATUSES, 0)
        self.causes: dict[str, int] = {}
        self.failures: list[Failure] = []
        self.output, self.memory_bytes = b"", 0
        self.usage: Usage | None = None
        self.elapsed_ns, self.interrupted = 0, False
        self._durations_ns = array("q")
        self._first_failure = (count + 1, exits.OK)

    @property
    def ended(self) -> int:
        return len(self._durations_ns)

    @property
    def exit_code(self) -> int:
        """That of one run, had it been the failed run that was started first."""
        return exits.INTERRUPTED if self.interrupted else self._first_failure[1]

    @property
    def runs_per_s(self) -> float:
        return self.ended * 1e9 / self.elapsed_ns if self.elapsed_ns else 0.0

    @property
    def latencies_ns(self) -> dict[str, int]:
        return latencies(self._durations_ns)

    def add(self, number: int, execution: Execution) -> None:
        """`number` counts from 1 in the order of the starts. Of the first run the output stays."""
        self.statuses[execution.status] += 1
        self._durations_ns.append(execution.duration_ns)
        self.memory_bytes = max(self.memory_bytes, execution.memory_bytes)
        if execution.usage is not None:
            self.usage = execution.usage if self.usage is None else self.usage + execution.usage
        if number == 1:
            self.output = execution.output
        if not execution.completed:
            self.causes[execution.cause] = self.causes.get(execution.cause, 0) + 1
            self._first_failure = min(self._first_failure, (number, exits.of_execution(execution)))

    def wants(self, number: int) -> bool:
        """Whether a failure of this number is among those to be shown."""
        shown = self.failures
        return len(shown) < FAILURES_SHOWN_MAX or number < shown[-1].number

    def keep(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.failures.sort(key=lambda failure: failure.number)
        del self.failures[FAILURES_SHOWN_MAX:]


def as_text(tally: Tally) -> str:
    """A table: a name, a number, what belongs to it."""
    causes = ", ".join(f"{cause} {count}" for cause, count in sorted(tally.causes.items()))
    times = "  ".join(f"{name} {length(ns)}" for name, ns in tally.latencies_ns.items())
    pace = (
        f"{tally.parallel} at a time, {length(tally.elapsed_ns)}, {tally.runs_per_s:.0f} a second"
    )
    missing = tally.count - tally.ended
    rows = [("runs", str(tally.ended), pace)]
    rows += [(status, str(count), "") for status, count in tally.statuses.items() if count]
    if causes:
        rows.append(("causes", "", causes))
    if missing:
        rows.append(("given up", str(missing), "not begun, or ended by the interrupt"))
    rows += [("latency", "", times), ("memory", "", f"{show_size(tally.memory_bytes)} at most")]
    width = max(len(number) for _, number, _ in rows)
    lines = (f"{name:10} {number:>{width}}  {rest}".rstrip() for name, number, rest in rows)
    return "".join(f"{line}\n" for line in lines)


def as_document(tally: Tally, program: Program, warnings: Sequence[str]) -> dict[str, Any]:
    """The JSON document of `spear run --repeat`: these keys whatever happened, times in
    milliseconds, sizes in bytes. What is refused before the first run is the document of one run
    with the status `refused`."""
    text, encoding = document.text_of(tally.output)
    failed = tally.ended - tally.statuses["completed"]
    ended = "failed" if failed else "completed"
    return {
        "kind": "repeat",
        "status": "interrupted" if tally.interrupted else ended,
        "exit_code": tally.exit_code,
        "count": tally.count,
        "parallel": tally.parallel,
        "ended": tally.ended,
        **tally.statuses,
        "causes": dict(sorted(tally.causes.items())),
        "elapsed_ms": tally.elapsed_ns / 1e6,
        "runs_per_s": round(tally.runs_per_s, 3),
        "latency_ms": {name: ns / 1e6 for name, ns in tally.latencies_ns.items()},
        "memory_bytes": tally.memory_bytes,
        "usage": document.of_usage(tally.usage),
        "output": text,
        "output_encoding": encoding,
        "output_bytes": len(tally.output),
        "failures": [_failure(failure) for failure in tally.failures],
        "artifact": {
            "sha256": program.digest, "shape": program.shape, "source": program.source,
        },
        "warnings": list(warnings),
    }  # fmt: skip


def _failure(failure: Failure) -> dict[str, Any]:
    execution = failure.execution
    return {
        "run": failure.number,
        "status": execution.status,
        "cause": execution.cause,
        "exit_code": execution.exit_code,
        "message": execution.error.message if execution.error else "",
        "logs": [document.log_of(line) for line in failure.logs],
    }

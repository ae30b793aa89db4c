"""Counts of the executions that ended since the node started, and how long they took.

The rule: integers only, a few additions an end.
"""

from __future__ import annotations

from spear.records.execution import COMPLETED, TERMINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.execution import Execution

_BUCKETS = 40  # powers of two of microseconds: the last begins at 18 years


class Tallies:
    """Of one node."""

    def __init__(self) -> None:
        self._by_status = dict.fromkeys(sorted(TERMINAL), 0)
        self._duration_ns = 0
        self._buckets = [0] * _BUCKETS

    def add(self, execution: Execution) -> None:
        self._by_status[execution.status] += 1
        self._duration_ns += execution.duration_ns
        self._buckets[min((execution.duration_ns // 1000).bit_length(), _BUCKETS - 1)] += 1

    def counts(self) -> dict[str, int]:
        """`total` that ended, `successful` and not, each terminal state, and the mean duration."""
        total = sum(self._by_status.values())
        successful = self._by_status[COMPLETED]
        return {
            "total": total,
            "successful": successful,
            "unsuccessful": total - successful,
            **self._by_status,
            "duration_us_mean": self._duration_ns // 1000 // total if total else 0,
        }

    def durations(self) -> dict[str, int]:
        """Executions by duration: `le_<n>` took less than n microseconds, and not less than half
        of it; empty buckets are left out."""
        return {f"le_{1 << at}": count for at, count in enumerate(self._buckets) if count}

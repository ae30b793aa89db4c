"""Counts of the executions that ended since the node started, and how long they took.

The rule: integers only, a few additions an end.
"""

from __future__ import annotations

from spear.records.execution import COMPLETED, TERMINAL
from spear.telemetry.histogram import Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.execution import Execution


class Tallies:
    """Of one node."""

    def __init__(self) -> None:
        self._by_status = dict.fromkeys(sorted(TERMINAL), 0)
        self._durations_us = Histogram()

    def add(self, execution: Execution) -> None:
        self._by_status[execution.status] += 1
        self._durations_us.observe(execution.duration_ns // 1000)

    def counts(self) -> dict[str, int]:
        """`total` that ended, `successful` and not, and each terminal state."""
        total = sum(self._by_status.values())
        successful = self._by_status[COMPLETED]
        return {
            "total": total,
            "successful": successful,
            "unsuccessful": total - successful,
            **self._by_status,
        }

    def durations_us(self) -> dict[str, int]:
        """How long they took: count, mean, percentiles (within 3.2 percent), the longest."""
        return self._durations_us.summary()

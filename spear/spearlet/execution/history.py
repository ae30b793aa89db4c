"""The ended executions that are remembered.

The rule: bounded in three ways, by count, by bytes of output and by age; the first to end leaves
first. Pure: the time is given.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear.spearlet.execution.execution import Execution


class History:
    """Ended executions in the order in which they were added; age counts from then."""

    __slots__ = ("_age_ns_max", "_by_id", "_bytes_max", "_count_max", "_size")

    def __init__(self, *, count_max: int, bytes_max: int, age_ns_max: int) -> None:
        self._count_max, self._bytes_max, self._age_ns_max = count_max, bytes_max, age_ns_max
        self._by_id: dict[str, tuple[Execution, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Execution]:
        return (execution for execution, _ in self._by_id.values())

    def get(self, id: str) -> Execution | None:
        found = self._by_id.get(id)
        return found and found[0]

    def add(self, execution: Execution, now_ns: int) -> None:
        self._by_id[execution.id] = execution, now_ns
        self._size += len(execution.output)
        self.trim(now_ns)

    def trim(self, now_ns: int) -> None:
        """Forgets what is beyond a limit."""
        while self._by_id:
            oldest, added_ns = next(iter(self._by_id.values()))
            young = now_ns - added_ns < self._age_ns_max
            if young and len(self._by_id) <= self._count_max and self._size <= self._bytes_max:
                return
            del self._by_id[oldest.id]
            self._size -= len(oldest.output)

    def stats(self) -> dict[str, int]:
        return {"count": len(self._by_id), "output_bytes": self._size}

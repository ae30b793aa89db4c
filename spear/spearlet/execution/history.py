"""The ended executions that are remembered.

The rule: bounded in three ways, by count, by bytes of output and by age; the first to end leaves
first. Pure: the time is given.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear.spearlet.execution.execution import Execution


class History:
    """Ended executions in the order in which they were added; age counts from then."""

    __slots__ = ("_age_ns_max", "_by_id", "_bytes_max", "_count_max", "_queue", "_size")

    def __init__(self, *, count_max: int, bytes_max: int, age_ns_max: int) -> None:
        self._count_max, self._bytes_max, self._age_ns_max = count_max, bytes_max, age_ns_max
        self._by_id: dict[str, Execution] = {}
        # Beside the dict, whose first entry takes long to find once many before it were deleted.
        self._queue: deque[tuple[Execution, int]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._by_id.values())

    def get(self, id: str) -> Execution | None:
        return self._by_id.get(id)

    def add(self, execution: Execution, now_ns: int) -> None:
        self._by_id[execution.id] = execution
        self._queue.append((execution, now_ns))
        self._size += len(execution.output)
        self.trim(now_ns)

    def trim(self, now_ns: int) -> None:
        """Forgets what is beyond a limit."""
        queue = self._queue
        while queue:
            oldest, added_ns = queue[0]
            young = now_ns - added_ns < self._age_ns_max
            if young and len(queue) <= self._count_max and self._size <= self._bytes_max:
                return
            queue.popleft()
            del self._by_id[oldest.id]
            self._size -= len(oldest.output)

    def stats(self) -> dict[str, int]:
        return {"count": len(self._queue), "output_bytes": self._size}

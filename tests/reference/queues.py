"""The queues in plain Python: what `spear._core.queues` must give, written the obvious way.

Rule: short enough to be seen right; the oracle of the property tests and the benchmarks' baseline.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from spear.errors import InvalidArgument, QueueFull


class RunQueue:
    """Deques by priority."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._levels: dict[int, deque[int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._levels.values()))

    def depths(self) -> dict[int, int]:
        return {level: len(self._levels[level]) for level in sorted(self._levels)}

    def push_many(self, handles: Sequence[int], priority: int = 0) -> None:
        if len(self) + len(handles) > self.capacity:
            raise QueueFull("the run queue is full")
        if handles:
            self._levels.setdefault(priority, deque()).extend(handles)

    def pop_many(self, n: int) -> list[int]:
        handles: list[int] = []
        while len(handles) < n and self._levels:
            first = min(self._levels)
            handles.append(self._levels[first].popleft())
            if not self._levels[first]:
                del self._levels[first]
        return handles


class DueQueue:
    """A heap of (deadline, sequence, handle); cancelled entries are dropped at the top."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._heap: list[tuple[int, int, int]] = []
        self._live: dict[int, int] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, handle: int) -> bool:
        return handle in self._live

    @property
    def next_deadline_ns(self) -> int | None:
        self._drop_cancelled()
        return self._heap[0][0] if self._heap else None

    def push_many(self, handles: Sequence[int], deadlines_ns: Sequence[int]) -> None:
        if len(self) + len(handles) > self.capacity:
            raise QueueFull("the due queue is full")
        if len(set(handles)) < len(handles) or any(h in self._live for h in handles):
            raise InvalidArgument("a handle is queued already")
        for handle, deadline_ns in zip(handles, deadlines_ns, strict=True):
            self._sequence += 1
            self._live[handle] = self._sequence
            heapq.heappush(self._heap, (deadline_ns, self._sequence, handle))

    def cancel(self, handle: int) -> bool:
        return self._live.pop(handle, None) is not None

    def pop_due(self, now_ns: int, n: int = 1024) -> list[int]:
        handles: list[int] = []
        self._drop_cancelled()
        while len(handles) < n and self._heap and self._heap[0][0] <= now_ns:
            handle = heapq.heappop(self._heap)[2]
            del self._live[handle]
            handles.append(handle)
            self._drop_cancelled()
        return handles

    def _drop_cancelled(self) -> None:
        while self._heap and self._live.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)

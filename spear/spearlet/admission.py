"""Which executions start now and which wait: limits, reservations, priorities, bounded queues.

The rule: pure; handles in, the handles that start now out; no clock, no await. Each operation
leaves nothing waiting that could start. What waits is ordered by its key, the time of its arrival
plus the penalty of its priority. A key never changes, and only finitely many can get a smaller one,
so nobody starves. Which waits may start:

- the first of each task that is below its concurrency: a task at its own never blocks others;
- what an agent called may also start where nothing of this has room for it: one of each depth at a
  time (`depths`), above all limits but its task's. So those that wait for what they called, and
  keep their place meanwhile, never wait for each other: what is deepest can always go on;
- if the first of all in line does not fit into what is unreserved, others may pass it, but only
  those whose key lies at most PASSING_NS behind its own. For later ones room is kept.

Of each shape (CPU, memory) only the first is looked at, so an operation costs about 1 us for each
shape that waits. Sorted lists instead of heaps: the queues are short enough, and what is cancelled
leaves at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Generic, NamedTuple, TypeVar

from spear.errors import InvalidArgument, QueueFull
from spear.units import format_duration, plural, show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

H = TypeVar("H")  # what the caller calls an execution; hashable

_S = 1_000_000_000
PENALTIES_NS = {"urgent": 0, "high": _S, "normal": 5 * _S, "low": 30 * _S}
PASSING_NS = 5 * _S
NODE_QUEUE_MAX, TASK_QUEUE_MAX = 10_000, 1_000
UNLIMITED = 1 << 62
_RETRY_UNKNOWN_MS, _RETRY_MIN_MS, _RETRY_MAX_MS = 1_000, 10, 30_000
_SAMPLE_MAX = 256  # departures from which a rate is taken


class _Rate:
    """How fast a queue has moved lately, since it was last empty; once _SAMPLE_MAX have left, the
    older half is forgotten."""

    __slots__ = ("left", "since_ns")

    def __init__(self) -> None:
        self.since_ns = self.left = 0

    def queued(self, now_ns: int, length: int) -> None:
        """One came; it is `length` long now."""
        if length == 1:
            self.since_ns, self.left = now_ns, 0
        elif self.left >= _SAMPLE_MAX:
            self.since_ns, self.left = (self.since_ns + now_ns) // 2, self.left // 2

    def retry_after_ms(self, now_ns: int, length: int) -> int:
        """When an eighth of the queue will have left: then those refused now find room."""
        if not self.left:
            return _RETRY_UNKNOWN_MS
        each_ns = max(0, now_ns - self.since_ns) // self.left
        wait_ms = each_ns * (length // 8 + 1) // 1_000_000
        return max(_RETRY_MIN_MS, min(wait_ms, _RETRY_MAX_MS))


class _Task(Generic[H]):
    """What one task runs and what of it waits, in the order of the keys."""

    __slots__ = ("concurrency", "kept", "key", "listed", "queue", "queue_max", "rate", "running")

    def __init__(self, key: str, concurrency: int, queue_max: int) -> None:
        self.key, self.concurrency, self.queue_max = key, concurrency, queue_max
        self.kept = False  # also while it is idle
        self.running = 0
        self.queue: list[_Entry[H]] = []
        self.listed: _Entry[H] | None = None  # its first, where that stands in a lane
        self.rate = _Rate()


class _Entry(NamedTuple, Generic[H]):
    """One that waits, in the order of its key; the number tells equal keys apart."""

    key_ns: int
    number: int
    handle: H
    task: _Task[H]
    shape: tuple[int, int]
    depth: int


class Admission(Generic[H]):
    """The admission of one node. `concurrency` is at least 1; reservations are in thousandths of a
    processor and in bytes. `depths` is how deep agents may call each other."""

    def __init__(
        self, *, concurrency: int, cpu_millis: int, memory_bytes: int,
        task_concurrency: int = UNLIMITED, queue_max: int = NODE_QUEUE_MAX,
        task_queue_max: int = TASK_QUEUE_MAX, depths: int = 0,
    ) -> None:  # fmt: skip
        self._concurrency, self._cpu_max, self._memory_max = concurrency, cpu_millis, memory_bytes
        self._cpu_free, self._memory_free = cpu_millis, memory_bytes
        self._queue_max = queue_max
        self._task_defaults = (task_concurrency, task_queue_max)
        self._tasks: dict[str, _Task[H]] = {}
        self._running: dict[H, tuple[_Task[H], int, int]] = {}
        self._waiting: dict[H, _Entry[H]] = {}
        # By shape, the first of each task that may start as far as its task is concerned.
        self._lanes: dict[tuple[int, int], list[_Entry[H]]] = {}
        # By depth, those that agents called and that wait; and the one that has its depth's place.
        self._called: list[list[_Entry[H]]] = [[] for _ in range(depths)]
        self._placed: dict[H, int] = {}
        self._rate = _Rate()
        self._number = self._refused = 0

    def offer(
        self, handle: H, task_key: str, priority: str, now_ns: int, cpu_millis: int = 0,
        memory_bytes: int = 0, waited_ns: int = 0, depth: int = 0,
    ) -> Sequence[H]:  # fmt: skip
        """Takes an execution: it is among the handles that start now, or it waits. `now_ns` grows
        (monotonic); `waited_ns` is how long it has waited already, in another process for one;
        `depth` is 0 for what no agent called.

        Raises QueueFull, and InvalidArgument for a reservation that the node never has.
        """
        assert handle not in self._running, "offered twice"
        task = self._tasks.get(task_key) or self._add(task_key)
        if self.has_room(task_key, cpu_millis, memory_bytes):
            self._start(handle, task, cpu_millis, memory_bytes)
            return (handle,)
        assert handle not in self._waiting, "offered twice"
        key_ns = now_ns - waited_ns + PENALTIES_NS[priority]
        self._number += 1
        entry = _Entry(key_ns, self._number, handle, task, (cpu_millis, memory_bytes), depth)
        try:
            self._check_shape(cpu_millis, memory_bytes)
            return self._queue(entry, now_ns)
        finally:
            self._tidy(task)

    def has_room(self, task_key: str, cpu_millis: int = 0, memory_bytes: int = 0) -> bool:
        """Whether one that is offered now starts now."""
        task = self._tasks.get(task_key)
        return (
            (task is None or task.running < task.concurrency)
            and not self._lanes  # so nothing of a task waits that may start another
            and len(self._running) - len(self._placed) < self._concurrency
            and cpu_millis <= self._cpu_free
            and memory_bytes <= self._memory_free
        )

    def release(self, handle: H) -> Sequence[H]:
        """One that ran has ended: its room is free. The handles that start now."""
        task, cpu_millis, memory_bytes = self._running.pop(handle)
        self._placed.pop(handle, None)
        self._cpu_free += cpu_millis
        self._memory_free += memory_bytes
        task.running -= 1
        if task.queue:
            self._list(task)
        elif not task.kept:
            self._tidy(task)
        return self._drain() if self._lanes else ()

    def cancel(self, handle: H) -> Sequence[H] | None:
        """Takes one that waits out of its queue: the handles that start now in its stead. None
        where it does not wait: it runs, or is not known."""
        entry = self._waiting.get(handle)
        if entry is None:
            return None
        self._leave(entry)
        self._tidy(entry.task)
        return self._drain()

    def set_limits(self, task_key: str, concurrency: int = 0, queue_max: int = 0) -> Sequence[H]:
        """Gives a task its limits (0: the node's) until `forget`. What runs or waits above a lower
        limit stays. The handles that start now."""
        task = self._tasks.get(task_key) or self._add(task_key)
        task.kept = True
        return self._limit(task, concurrency, queue_max)

    def forget(self, task_key: str) -> Sequence[H]:
        """The task's limits are the node's again, and it is not known once it is idle. The handles
        that start now."""
        task = self._tasks.get(task_key)
        if task is None:
            return ()
        task.kept = False
        started = self._limit(task, 0, 0)
        self._tidy(task)
        return started

    def position(self, handle: H) -> int:
        """How many wait before it, over all tasks; -1 where it does not wait. Costs a look at each
        task."""
        entry = self._waiting.get(handle)
        if entry is None:
            return -1
        return sum(bisect_left(task.queue, entry) for task in self._tasks.values())

    def stats(self) -> dict[str, int]:
        """What the node does now; `refused` since it started."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "tasks": len(self._tasks),
            "cpu_millis_reserved": self._cpu_max - self._cpu_free,
            "memory_bytes_reserved": self._memory_max - self._memory_free,
            "refused": self._refused,
        }

    def task_stats(self, task_key: str) -> dict[str, int]:
        task = self._tasks.get(task_key)
        return {
            "running": task.running if task else 0,
            "waiting": len(task.queue) if task else 0,
        }

    def _add(self, task_key: str) -> _Task[H]:
        task: _Task[H] = _Task(task_key, *self._task_defaults)
        self._tasks[task_key] = task
        return task

    def _tidy(self, task: _Task[H]) -> None:
        """Forgets a task that nobody set limits for and that has nothing to do."""
        if not (task.kept or task.running or task.queue):
            del self._tasks[task.key]

    def _limit(self, task: _Task[H], concurrency: int, queue_max: int) -> Sequence[H]:
        task.concurrency = concurrency or self._task_defaults[0]
        task.queue_max = queue_max or self._task_defaults[1]
        self._list(task)
        return self._drain()

    def _check_shape(self, cpu_millis: int, memory_bytes: int) -> None:
        if cpu_millis > self._cpu_max or memory_bytes > self._memory_max:
            raise InvalidArgument(
                f"a reservation of {cpu_millis / 1000:g} processors and {show_size(memory_bytes)} "
                f"was asked for; the node has {self._cpu_max / 1000:g} and "
                f"{show_size(self._memory_max)} in all"
            )

    def _queue(self, entry: _Entry[H], now_ns: int) -> Sequence[H]:
        """Lines it up, and takes it out again if it does not start and there is no place to wait.
        (One that does not start makes nobody else start, so nothing has happened then.)"""
        task = entry.task
        insort(task.queue, entry)
        self._waiting[entry.handle] = entry
        if 0 < entry.depth <= len(self._called):
            insort(self._called[entry.depth - 1], entry)
        self._list(task)
        started = self._drain()
        if entry.handle not in self._waiting:
            return started
        full = self._full(task, now_ns)
        if full is not None:
            self._remove(entry)
            self._refused += 1
            raise full
        task.rate.queued(now_ns, len(task.queue))
        self._rate.queued(now_ns, len(self._waiting))
        return started

    def _full(self, task: _Task[H], now_ns: int) -> QueueFull | None:
        """Why the one that came last finds no place."""
        if len(task.queue) > task.queue_max:
            name, limit, rate = "the task has", task.queue_max, task.rate
        elif len(self._waiting) > self._queue_max:
            name, limit, rate = "the node has", self._queue_max, self._rate
        else:
            return None
        after_ms = rate.retry_after_ms(now_ns, limit)
        wait, waiting = format_duration(after_ms * 1_000_000), plural(limit, "execution")
        return QueueFull(f"{name} {waiting} waiting, its most: come back in about {wait}", after_ms)

    def _leave(self, entry: _Entry[H]) -> None:
        """Its place is free: it starts, or was cancelled."""
        entry.task.rate.left += 1
        self._rate.left += 1
        self._remove(entry)

    def _remove(self, entry: _Entry[H]) -> None:
        task = entry.task
        del self._waiting[entry.handle]
        del task.queue[bisect_left(task.queue, entry)]
        if 0 < entry.depth <= len(self._called):
            called = self._called[entry.depth - 1]
            del called[bisect_left(called, entry)]
        self._list(task)

    def _list(self, task: _Task[H]) -> None:
        """Puts the task's first into its lane if it may start as far as the task is concerned,
        and takes out what stood there before."""
        listed = task.listed
        first = task.queue[0] if task.queue and task.running < task.concurrency else None
        if first is listed:
            return
        if listed is not None:
            lane = self._lanes[listed.shape]
            del lane[bisect_left(lane, listed)]
            if not lane:
                del self._lanes[listed.shape]
        if first is not None:
            insort(self._lanes.setdefault(first.shape, []), first)
        task.listed = first

    def _drain(self) -> list[H]:
        """Starts all that may start."""
        started: list[H] = []
        while self._lanes and len(self._running) - len(self._placed) < self._concurrency:
            entry = self._next()
            if entry is None:
                break
            self._start(entry.handle, entry.task, *entry.shape)
            self._leave(entry)
            started.append(entry.handle)
        for depth, called in enumerate(self._called, 1):
            if called and depth not in self._placed.values():
                self._place(depth, called, started)
        return started

    def _place(self, depth: int, called: list[_Entry[H]], started: list[H]) -> None:
        """Gives the place of a depth to the first whose task may start another."""
        for entry in called:
            if entry.task.running < entry.task.concurrency:
                self._start(entry.handle, entry.task, 0, 0)
                self._placed[entry.handle] = depth
                self._leave(entry)
                started.append(entry.handle)
                return

    def _next(self) -> _Entry[H] | None:
        first = min(lane[0] for lane in self._lanes.values())
        if self._fits(first.shape):
            return first
        last_ns = first.key_ns + PASSING_NS
        passing = [
            lane[0]
            for shape, lane in self._lanes.items()
            if self._fits(shape) and lane[0].key_ns <= last_ns
        ]
        return min(passing, default=None)

    def _fits(self, shape: tuple[int, int]) -> bool:
        return shape[0] <= self._cpu_free and shape[1] <= self._memory_free

    def _start(self, handle: H, task: _Task[H], cpu_millis: int, memory_bytes: int) -> None:
        self._cpu_free -= cpu_millis
        self._memory_free -= memory_bytes
        task.running += 1
        self._running[handle] = (task, cpu_millis, memory_bytes)

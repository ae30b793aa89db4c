"""Admission in plain Python: one list of all that waits, looked through from its begin each time.

Rule: short enough to be seen right; the oracle of the property tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PENALTIES_S = {"urgent": 0, "high": 1, "normal": 5, "low": 30}
PASSING_S = 5
S = 10**9


@dataclass(order=True)
class Waiting:
    key: int
    number: int
    handle: int = field(compare=False)
    task: str = field(compare=False)
    cpu: int = field(compare=False)
    memory: int = field(compare=False)
    depth: int = field(compare=False, default=0)
    placed: bool = field(compare=False, default=False)


class Full(Exception):
    pass


class Never(Exception):
    pass


class Admission:
    def __init__(
        self, concurrency, cpu, memory, task_concurrency, queue_max, task_queue_max, depths=0
    ):
        self.depths = depths
        self.concurrency, self.cpu, self.memory = concurrency, cpu, memory
        self.queue_max, self.defaults = queue_max, (task_concurrency, task_queue_max)
        self.limits: dict[str, tuple[int, int]] = {}
        self.running: dict[int, Waiting] = {}
        self.waiting: list[Waiting] = []
        self.number = 0

    def offer(self, handle, task, priority, now_ns, cpu, memory, waited_ns, depth=0):
        if cpu > self.cpu or memory > self.memory:
            raise Never
        self.number += 1
        key = now_ns - waited_ns + PENALTIES_S[priority] * S
        one = Waiting(key, self.number, handle, task, cpu, memory, depth)
        self.waiting.append(one)
        started = self.settle()
        if one in self.waiting:
            mine = [w for w in self.waiting if w.task == task]
            if len(mine) > self.limit(task)[1] or len(self.waiting) > self.queue_max:
                self.waiting.remove(one)
                raise Full
        return started

    def release(self, handle):
        del self.running[handle]
        return self.settle()

    def cancel(self, handle):
        before = len(self.waiting)
        self.waiting = [w for w in self.waiting if w.handle != handle]
        return None if len(self.waiting) == before else self.settle()

    def set_limits(self, task, concurrency, queue_max):
        self.limits[task] = (concurrency or self.defaults[0], queue_max or self.defaults[1])
        return self.settle()

    def forget(self, task):
        self.limits.pop(task, None)
        return self.settle()

    def position(self, handle):
        order = [w.handle for w in sorted(self.waiting)]
        return order.index(handle) if handle in order else -1

    def limit(self, task):
        return self.limits.get(task, self.defaults)

    def settle(self):
        started = []
        while self.used() < self.concurrency and (one := self.choose()) is not None:
            self.start(one, started)
        for depth in range(1, self.depths + 1):
            taken = any(w.placed and w.depth == depth for w in self.running.values())
            for one in sorted(self.waiting):
                may = one.depth == depth and self.active(one.task) < self.limit(one.task)[0]
                if may and not taken:
                    one.placed, one.cpu, one.memory, taken = True, 0, 0, True
                    self.start(one, started)
        return started

    def used(self):
        return sum(not w.placed for w in self.running.values())

    def start(self, one, started):
        self.waiting.remove(one)
        self.running[one.handle] = one
        started.append(one.handle)

    def choose(self):
        firsts = {}
        for one in sorted(self.waiting):
            firsts.setdefault(one.task, one)
        line = [w for w in sorted(firsts.values()) if self.active(w.task) < self.limit(w.task)[0]]
        for one in line:
            if one.key - line[0].key > PASSING_S * S:
                return None
            if one.cpu <= self.free("cpu") and one.memory <= self.free("memory"):
                return one
        return None

    def active(self, task):
        return sum(w.task == task for w in self.running.values())

    def free(self, what):
        return getattr(self, what) - sum(getattr(w, what) for w in self.running.values())

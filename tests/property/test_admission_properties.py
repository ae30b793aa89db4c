"""Admission against the plain reference, for any sequence of operations; nobody starves."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spear.errors import InvalidArgument, QueueFull
from spear.spearlet.admission import PENALTIES_NS, Admission
from tests.reference import admission as reference

S = 10**9
PRIORITIES = st.sampled_from(sorted(PENALTIES_NS))
TASKS = st.sampled_from("abcd")
LIMITS = st.integers(1, 4)
CPU, MEMORY = 4, 8


def outcome(call, *arguments):
    try:
        started = call(*arguments)
        return None if started is None else list(started)
    except (QueueFull, reference.Full):
        return "full"
    except (InvalidArgument, reference.Never):
        return "never"


class AdmissionMachine(RuleBasedStateMachine):
    @initialize(
        concurrency=st.integers(1, 6), task=LIMITS, queue=st.integers(1, 12),
        depths=st.integers(0, 3),
    )  # fmt: skip
    def start(self, concurrency, task, queue, depths):
        self.ours: Admission[int] = Admission(
            concurrency=concurrency, cpu_millis=CPU, memory_bytes=MEMORY,
            task_concurrency=task, queue_max=queue, task_queue_max=5,
            depths=depths,
        )  # fmt: skip
        self.theirs = reference.Admission(concurrency, CPU, MEMORY, task, queue, 5, depths)
        self.now_ns = self.last = 0

    def both(self, operation, *arguments):
        ours = outcome(getattr(self.ours, operation), *arguments)
        assert ours == outcome(getattr(self.theirs, operation), *arguments)

    @rule(
        task=TASKS, priority=PRIORITIES, passed=st.integers(0, 3 * S), waited=st.integers(0, S),
        cpu=st.sampled_from([0, 0, 1, 3, CPU, CPU + 1]), memory=st.sampled_from([0, 0, 2, MEMORY]),
        depth=st.sampled_from([0, 0, 1, 1, 2, 3, 4]),
    )  # fmt: skip
    def offer(self, task, priority, passed, waited, cpu, memory, depth):
        self.now_ns += passed
        self.last += 1
        self.both("offer", self.last, task, priority, self.now_ns, cpu, memory, waited, depth)

    @rule(number=st.integers(0, 5))
    def release(self, number):
        running = sorted(self.theirs.running)
        assume(running)
        self.both("release", running[number % len(running)])

    @rule(back=st.integers(0, 12))
    def cancel(self, back):
        self.both("cancel", self.last - back)

    @rule(task=TASKS, concurrency=st.integers(0, 4), queue=st.integers(0, 4))
    def set_limits(self, task, concurrency, queue):
        self.both("set_limits", task, concurrency, queue)

    @rule(task=TASKS)
    def forget(self, task):
        self.both("forget", task)

    @invariant()
    def same_state(self):
        if not hasattr(self, "ours"):
            return
        stats = self.ours.stats()
        waiting, running = self.theirs.waiting, self.theirs.running.values()
        assert (stats["running"], stats["waiting"]) == (len(running), len(waiting))
        assert stats["cpu_millis_reserved"] == sum(w.cpu for w in running)
        assert stats["memory_bytes_reserved"] == sum(w.memory for w in running)
        busy = {w.task for w in (*waiting, *running)}
        assert stats["tasks"] == len(busy | set(self.theirs.limits))
        for task in "abcd":
            assert self.ours.task_stats(task) == {
                "running": self.theirs.active(task),
                "waiting": sum(w.task == task for w in waiting),
            }
        for handle in range(self.last + 1):
            assert self.ours.position(handle) == self.theirs.position(handle)


TestAdmission = AdmissionMachine.TestCase


@pytest.mark.parametrize("seed", range(5))
def test_nobody_starves_under_a_flood_of_urgent_small_ones(seed: int) -> None:
    """A low one that wants the whole node starts within the time its key allows for."""
    numbers = random.Random(seed)
    admission: Admission[int] = Admission(concurrency=8, cpu_millis=4, memory_bytes=0)
    running: list[int] = []
    handle, now_ns = 0, 0
    running += admission.offer(-2, "small", "urgent", now_ns, 1)
    running += admission.offer(-1, "big", "low", now_ns, 4)
    while -1 not in running:
        now_ns += S // 10
        assert now_ns < 40 * S, "30 s of penalty, 5 s of passing, and what runs then"
        for _ in range(3):
            handle += 1
            running += admission.offer(handle, f"task {handle % 7}", "urgent", now_ns, 1)
        for _ in range(min(3, len(running))):
            running += admission.release(running.pop(numbers.randrange(len(running))))


@settings(deadline=None)
@given(st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=30), st.data())
def test_those_that_wait_for_what_they_called_never_stand_still(concurrency, roots, data) -> None:
    """Each root calls a chain so long, link by link; each link ends only after the one below."""
    admission: Admission[tuple[int, int]] = Admission(
        concurrency=concurrency, cpu_millis=0, memory_bytes=0, depths=4
    )
    began: list[tuple[int, int]] = []
    running = 0
    for root in range(len(roots)):
        began += admission.offer((root, 0), "t", "normal", root)
    while began:
        root, depth = began.pop(data.draw(st.integers(0, len(began) - 1)))
        if depth < roots[root]:
            began += admission.offer((root, depth + 1), "t", "normal", running, depth=depth + 1)
            continue
        for link in range(depth, -1, -1):  # the deepest has ended, and so all above it
            began += admission.release((root, link))
        running += 1
    assert running == len(roots)


@settings(deadline=None)
@given(st.lists(st.tuples(TASKS, PRIORITIES), max_size=60), st.integers(1, 3))
def test_all_that_was_offered_starts_once(offers, concurrency) -> None:
    admission: Admission[int] = Admission(
        concurrency=concurrency, cpu_millis=0, memory_bytes=0, task_concurrency=2
    )
    seen: Counter[int] = Counter()
    running: list[int] = []
    for handle, (task, priority) in enumerate(offers):
        running += admission.offer(handle, task, priority, handle)
    while running:
        seen.update([running[0]])
        running += admission.release(running.pop(0))
    assert seen == Counter(range(len(offers)))
    assert admission.stats()["tasks"] == 0

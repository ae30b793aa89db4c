"""Queues against the plain-Python reference, for any sequence of operations."""

from array import array

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spear._core.queues import DueQueue, RunQueue
from spear.errors import SpearError
from tests.reference import queues as reference

CAPACITY = 300
handles = st.lists(st.integers(0, 2**64 - 1), max_size=150)
names = st.integers(0, 400)  # few, so that handles meet again
deadlines = st.integers(-5, 40)


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except SpearError as error:
        return type(error)


class RunQueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = RunQueue(CAPACITY), reference.RunQueue(CAPACITY)

    @rule(batch=handles, priority=st.integers(0, 255), as_buffer=st.booleans())
    def push_many(self, batch, priority, as_buffer):
        given = array("Q", batch) if as_buffer else batch
        assert outcome(self.ours.push_many, given, priority) == outcome(
            self.theirs.push_many, batch, priority
        )

    @rule(handle=st.integers(0, 2**64 - 1), priority=st.sampled_from([0, 63, 64, 255]))
    def push(self, handle, priority):
        assert outcome(self.ours.push, handle, priority) == outcome(
            self.theirs.push_many, [handle], priority
        )

    @rule(n=st.integers(0, 200))
    def pop_many(self, n):
        assert self.ours.pop_many(n) == self.theirs.pop_many(n)

    @rule()
    def pop(self):
        assert self.ours.pop() == next(iter(self.theirs.pop_many(1)), None)

    @invariant()
    def same_size(self):
        assert len(self.ours) == len(self.theirs)
        assert self.ours.depths() == self.theirs.depths()


class DueQueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = DueQueue(CAPACITY), reference.DueQueue(CAPACITY)

    @rule(pairs=st.lists(st.tuples(names, deadlines), max_size=100))
    def push_many(self, pairs):
        batch, due = [p[0] for p in pairs], [p[1] for p in pairs]
        assert outcome(self.ours.push_many, batch, due) == outcome(
            self.theirs.push_many, batch, due
        )

    @rule(handle=names, deadline=deadlines)
    def push(self, handle, deadline):
        assert outcome(self.ours.push, handle, deadline) == outcome(
            self.theirs.push_many, [handle], [deadline]
        )

    @rule(start=names, count=st.integers(0, 200))
    def cancel(self, start, count):
        for handle in range(start, start + count):
            assert self.ours.cancel(handle) == self.theirs.cancel(handle)

    @rule(now=deadlines, n=st.integers(0, 300))
    def pop_due(self, now, n):
        assert self.ours.pop_due(now, n) == self.theirs.pop_due(now, n)

    @invariant()
    def same_state(self):
        assert len(self.ours) == len(self.theirs)
        assert self.ours.next_deadline_ns == self.theirs.next_deadline_ns


TestRunQueue = RunQueueMachine.TestCase
TestDueQueue = DueQueueMachine.TestCase

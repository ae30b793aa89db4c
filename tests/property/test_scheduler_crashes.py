"""A scheduler that dies at any step, by its process or by the power, runs no due time twice and
loses none that its policy keeps."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from crashes import CrashingKv, Fuse
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock
from property_examples import examples

from spear.clock import Ids
from spear.records.execution import Execution, Invocation
from spear.records.schedule import MISSED, ScheduleSpec
from spear.spearlet.schedules.scheduler import Scheduler

S = 10**9
EVERY_NS = 60 * S
MINUTES = 6
DOWN_S = 150  # the node is down so long after each crash


class Node:
    """Takes executions durably, one a key, as the real one does; each takes 90 seconds."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.begun = clock, dict[str, int]()
        self.asked: Counter[str] = Counter()
        self.fuse = Fuse()

    async def submit(self, task: str, input: bytes, invocation: Invocation) -> Execution:
        self.fuse.step()
        key = invocation.idempotency_key
        self.asked[key] += 1
        self.begun.setdefault(key, self.clock.now_ns())
        self.fuse.step()
        return Execution(id=f"run of {key}")

    async def ended(self, id: str) -> bool:
        self.fuse.step()
        return self.clock.now_ns() - self.begun[id.removeprefix("run of ")] >= 90 * S


class World:
    """Scheduler after scheduler over one store and one node."""

    def __init__(self, fuses: list[int], *, power: bool) -> None:
        self.clock = ManualClock()
        self.node = Node(self.clock)
        self.fuses, self.power, self.crashes = fuses, power, 0
        self.kv = CrashingKv(Fuse())
        self.start()

    def start(self) -> None:
        self.scheduler = Scheduler(
            self.kv, self.clock, Ids(self.clock), self.node.submit, self.node.ended, self.report
        )
        self.scheduler.load()

    def report(self, schedule: object, error: object) -> None:
        raise AssertionError(error)

    async def live(self) -> None:
        self.begin = self.clock.now_ns()
        while self.clock.now_ns() < self.begin + MINUTES * EVERY_NS:
            self.clock.advance(min(await self.step(), 10 * S))

    async def step(self) -> int:
        fuse = self.node.fuse
        try:
            return await self.scheduler.step()
        except BaseException:
            if not fuse.blown:
                raise
            self.crashes += 1
            self.rearm(self.kv)
            self.start()
            self.clock.advance(DOWN_S * S)
            return 0

    def rearm(self, old: CrashingKv) -> None:
        fuse = Fuse(self.fuses.pop() if self.fuses else 0)
        self.node.fuse, self.kv = fuse, old.survivors(fuse, power=self.power)


async def history(
    missed: str, overlap: bool, fuses: list[int], power: bool
) -> tuple[World, list[int]]:
    """One life with crashes; the world after it, and the due times that were run, in minutes."""
    world = World(fuses, power=power)
    spec = ScheduleSpec(task="t", every_ns=EVERY_NS, missed=missed, overlap=overlap)
    await world.scheduler.add(spec)
    world.rearm(world.kv)
    world.start()
    await world.live()
    while world.scheduler.schedules()[0].pending_ns:
        await world.step()
    (schedule,) = world.scheduler.schedules()
    runs = [int(key.split("/")[2]) for key in world.node.begun]
    decided = (schedule.next_ns - world.begin) // EVERY_NS - 1
    assert schedule.runs == len(runs), "each is counted, also the one before the crash"
    assert schedule.runs + schedule.missed == decided, "each due time is decided once"
    if not overlap:
        begun = sorted(world.node.begun.values())
        assert all(b - a >= 90 * S for a, b in pairwise(begun))
    return world, [(run - world.begin) // EVERY_NS for run in runs]


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("missed", MISSED)
async def test_one_crash_at_each_step(missed: str, overlap: bool, power: bool) -> None:
    at = 0
    while True:
        at += 1
        world, runs = await history(missed, overlap, [at], power)
        if missed == "all" and overlap:
            assert runs == list(range(1, len(runs) + 1)), "each once, in order"
            assert world.scheduler.schedules()[0].missed == 0
        if not world.crashes:
            break
    assert at > 25, "there were steps to crash at"


@settings(max_examples=examples(100), deadline=None)
@given(
    st.sampled_from(MISSED), st.booleans(), st.lists(st.integers(1, 15), max_size=6), st.booleans()
)
def test_crashes_during_recovery(missed, overlap, fuses, power) -> None:
    _, runs = asyncio.run(history(missed, overlap, fuses, power))
    if missed == "all":
        assert runs == list(range(1, len(runs) + 1))

"""What the scheduler does for its callers and with a node that refuses, one sentence a test."""

from __future__ import annotations

import asyncio

import pytest
from manual_clock import ManualClock

from spear.clock import Ids
from spear.errors import InvalidArgument, KvDamaged, KvError, NodeClosed, NotFound, QueueFull
from spear.kv.batch import Batch
from spear.kv.memory import MemoryKv
from spear.records.execution import Execution, Invocation
from spear.records.schedule import Schedule, ScheduleSpec
from spear.spearlet.schedules import scheduler as scheduler_module
from spear.spearlet.schedules.scheduler import CHECK_NS, Scheduler

S = 10**9
EACH_MINUTE = ScheduleSpec(task="t", every_ns=60 * S, input=b"in")


class Setting:
    """A scheduler, and a node which answers what the test says."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.kv = clock, MemoryKv()
        self.errors: list[Exception] = []  # the next answers
        self.submitted: list[tuple[str, bytes, Invocation]] = []
        self.ended: set[str] = set()
        self.reports: list[str] = []
        self.during = lambda: None
        self.ids = Ids(clock)
        self.again()

    def again(self) -> None:
        self.scheduler = Scheduler(
            self.kv, self.clock, self.ids, self.submit, self.has_ended,
            lambda schedule, error: self.reports.append(str(error)),
        )  # fmt: skip
        self.scheduler.load()

    async def submit(self, task: str, input: bytes, invocation: Invocation) -> Execution:
        self.during()
        if self.errors:
            raise self.errors.pop(0)
        self.submitted.append((task, input, invocation))
        return Execution(id=f"run {len(self.submitted)}")

    async def has_ended(self, id: str) -> bool:
        return id in self.ended

    async def minute(self) -> int:
        self.clock.advance(60 * S)
        return await self.scheduler.step()


@pytest.fixture
def setting(clock: ManualClock) -> Setting:
    return Setting(clock)


async def test_a_due_run_is_submitted_with_its_key(setting: Setting) -> None:
    spec = ScheduleSpec(
        task="t", every_ns=60 * S, input=b"in", invocation=Invocation(priority="low")
    )
    schedule = await setting.scheduler.add(spec)
    assert await setting.scheduler.step() == CHECK_NS
    assert setting.submitted == []
    await setting.minute()
    key = f"schedule/{schedule.id}/{schedule.next_ns}"
    invocation = Invocation(priority="low", idempotency_key=key)
    assert setting.submitted == [("t", b"in", invocation)]
    found = setting.scheduler.get(schedule.id)
    assert (found.runs, found.last_ns, found.last_execution_id) == (1, schedule.next_ns, "run 1")


async def test_schedules_are_listed_removed_and_there_again_after_a_restart(
    setting: Setting,
) -> None:
    added = [await setting.scheduler.add(EACH_MINUTE) for _ in range(3)]
    setting.again()
    assert setting.scheduler.schedules() == added
    assert await setting.scheduler.remove(added[1].id) == added[1]
    setting.again()
    assert setting.scheduler.schedules() == [added[0], added[2]]
    for call in (setting.scheduler.get, setting.scheduler.remove):
        with pytest.raises(NotFound, match=added[1].id):
            found = call(added[1].id)
            assert not isinstance(found, Schedule)
            await found
    with pytest.raises(InvalidArgument):
        await setting.scheduler.add(ScheduleSpec(task="t"))


async def test_more_rows_than_a_page_are_loaded(setting: Setting) -> None:
    for _ in range(1001):
        await setting.scheduler.add(EACH_MINUTE)
    setting.again()
    assert len(setting.scheduler.schedules()) == 1001


async def test_a_damaged_row_is_said(setting: Setting) -> None:
    batch = Batch()
    batch.put(b"schedule/x", b"\xc1")
    setting.kv.write(batch)
    with pytest.raises(KvDamaged, match="schedule/x"):
        setting.again()


async def test_a_full_node_is_asked_again_when_it_said_and_reported_once(setting: Setting) -> None:
    await setting.scheduler.add(EACH_MINUTE)
    setting.errors = [QueueFull("full", 1500), QueueFull("full"), NodeClosed("closed")]
    assert await setting.minute() == 1500 * 10**6
    setting.clock.advance(1499 * 10**6)
    await setting.scheduler.step()
    assert len(setting.errors) == 2, "not before"
    for _ in range(3):
        setting.clock.advance(2 * S)
        await setting.scheduler.step()
    assert len(setting.submitted) == 1
    assert setting.reports == ["full"]
    assert setting.scheduler.schedules()[0].missed == 0


async def test_a_run_that_cannot_be_is_given_up(setting: Setting) -> None:
    schedule = await setting.scheduler.add(EACH_MINUTE)
    setting.errors = [NotFound("no task 't'")]
    await setting.minute()
    await setting.minute()
    assert setting.reports == ["no task 't'"]
    found = setting.scheduler.get(schedule.id)
    assert (found.runs, found.missed) == (1, 1)


async def test_the_end_of_the_last_run_lets_the_next_begin_at_once(setting: Setting) -> None:
    await setting.scheduler.add(EACH_MINUTE)
    await setting.minute()
    assert await setting.minute() == S, "it is looked at again after a second"
    await setting.scheduler.step()
    assert len(setting.submitted) == 1
    setting.ended.add("run 1")
    setting.scheduler.execution_ended("some other")
    await setting.scheduler.step()
    assert len(setting.submitted) == 1
    setting.scheduler.execution_ended("run 1")
    await setting.scheduler.step()
    assert len(setting.submitted) == 2


async def test_an_end_that_nobody_told_of_is_noticed(setting: Setting) -> None:
    await setting.scheduler.add(EACH_MINUTE)
    await setting.minute()
    await setting.minute()
    setting.ended.add("run 1")
    setting.clock.advance(S)
    await setting.scheduler.step()
    assert len(setting.submitted) == 2


async def test_a_schedule_removed_while_its_run_is_submitted_is_gone(setting: Setting) -> None:
    schedule = await setting.scheduler.add(EACH_MINUTE)

    async def submit(task: str, input: bytes, invocation: Invocation) -> Execution:
        await setting.scheduler.remove(schedule.id)
        return Execution(id="x")

    setting.scheduler._submit = submit
    await setting.minute()
    assert setting.scheduler.schedules() == []
    setting.again()
    assert setting.scheduler.schedules() == []


async def test_a_schedule_removed_while_its_choice_is_stored_is_gone(setting: Setting) -> None:
    schedule = await setting.scheduler.add(EACH_MINUTE)
    synced = setting.kv.synced

    async def removing(sequence: int) -> None:
        setting.kv.synced = synced  # type: ignore[method-assign]
        await setting.scheduler.remove(schedule.id)

    setting.kv.synced = removing  # type: ignore[method-assign]
    await setting.minute()
    assert setting.scheduler.schedules() == []
    assert setting.submitted == []


async def test_a_schedule_that_is_being_removed_is_not_stored_again(setting: Setting) -> None:
    schedule = await setting.scheduler.add(EACH_MINUTE)
    synced = setting.kv.synced

    async def serving(sequence: int) -> None:
        setting.kv.synced = synced  # type: ignore[method-assign]
        await setting.minute()

    setting.kv.synced = serving  # type: ignore[method-assign]
    await setting.scheduler.remove(schedule.id)
    assert setting.submitted == []
    setting.again()
    assert setting.scheduler.schedules() == []


async def test_a_store_that_fails_is_tried_again_without_losing_a_run(setting: Setting) -> None:
    await setting.scheduler.add(EACH_MINUTE)
    synced, failures = setting.kv.synced, [KvError("disk"), KvError("disk")]

    async def failing(sequence: int) -> None:
        if failures:
            raise failures.pop()
        await synced(sequence)

    setting.kv.synced = failing  # type: ignore[method-assign]
    await setting.minute()
    assert setting.submitted == [], "what was chosen is not durable yet"
    for _ in range(2):
        setting.clock.advance(S)
        await setting.scheduler.step()
    assert len(setting.submitted) == 1
    assert setting.reports == ["disk"]


async def test_runs_of_one_schedule_give_way_to_others(setting: Setting) -> None:
    busy = ScheduleSpec(task="busy", every_ns=S, missed="all", overlap=True)
    await setting.scheduler.add(busy)
    await setting.scheduler.add(ScheduleSpec(task="calm", every_ns=60 * S))
    assert await setting.minute() == 0, "there is more to do"
    tasks = [task for task, _, _ in setting.submitted]
    assert tasks.count("calm") == 1
    assert tasks.count("busy") < 60
    while await setting.scheduler.step() == 0:
        pass
    assert len(setting.submitted) == 61


async def test_the_loop_submits_when_a_schedule_is_added(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "CHECK_NS", 10**15)  # so that it is told, or never knows
    done = asyncio.Event()
    setting.during = done.set
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(setting.scheduler.run())
        await asyncio.sleep(0)
        await setting.scheduler.add(ScheduleSpec(task="t", at_ns=setting.clock.now_ns()))
        await done.wait()
        loop.cancel()

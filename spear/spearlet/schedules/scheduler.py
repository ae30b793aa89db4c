"""Runs what schedules say: their rows in the metadata store, and the loop that submits due runs.

The rule: plan.py decides, this does, in an order that loses nothing: a choice is durable before it
is submitted, and submitted under a key of its own, which gives the same execution when it is
submitted again. The loop waits by the monotonic clock, and looks at the wall clock at least every
CHECK_NS, so that a jump is seen.
"""

from __future__ import annotations

import asyncio

import msgspec

from spear.errors import KvDamaged, NotFound, QueueFull, SpearError
from spear.kv.batch import Batch
from spear.records.schedule import Schedule, ScheduleSpec
from spear.spearlet.schedules import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spear.clock import Clock, Ids
    from spear.kv.interface import LocalKv
    from spear.records.execution import Execution, Invocation

    Submit = Callable[[str, bytes, Invocation], Awaitable[Execution]]
    Ended = Callable[[str], Awaitable[bool]]  # whether that execution has ended, or is not known
    Report = Callable[[Schedule, SpearError], None]  # a run that was not submitted

PREFIX = b"schedule/"
SCHEDULES_MAX = 10_000
CHECK_NS = 2 * 10**9
_AGAIN_NS = 10**9  # after a run that could not be submitted now
_TOGETHER = 64  # schedules served at once
_IN_A_ROW = 16  # runs of one schedule, until others had their turn
_DECODER = msgspec.msgpack.Decoder(Schedule)
_ENCODER = msgspec.msgpack.Encoder()


class Scheduler:
    """All schedules of a node; on the loop's thread. `load` first, then `run` as a task that its
    parent cancels at the end."""

    def __init__(
        self, kv: LocalKv, clock: Clock, ids: Ids, submit: Submit, ended: Ended, report: Report
    ) -> None:
        self._kv, self._clock, self._ids = kv, clock, ids
        self._submit, self._ended, self._report = submit, ended, report
        self._schedules: dict[str, Schedule] = {}  # as they are stored, durably
        self._not_before_ns: dict[str, int] = {}  # by schedule, on the monotonic clock
        self._busy: dict[str, str] = {}  # the execution that a schedule waits for -> the schedule
        self._wake = asyncio.Event()

    def load(self) -> None:
        """Reads all rows. Raises KvDamaged for one that is no schedule."""
        after = b""
        while rows := self._kv.scan(PREFIX, after=after):
            for key, value in rows:
                schedule = _decode(key, value)
                self._schedules[schedule.id] = schedule
            after = rows[-1][0]

    async def add(self, spec: ScheduleSpec) -> Schedule:
        """Class power. Raises InvalidArgument, QueueFull."""
        if len(self._schedules) >= SCHEDULES_MAX:
            raise QueueFull(f"the node has {SCHEDULES_MAX} schedules, its most: remove some")
        now_ns, durability = self._clock.now_ns(), self._kv.durability
        schedule = plan.begin(self._ids.next(), spec, now_ns, durability)
        await self._store(schedule)
        self._schedules[schedule.id] = schedule
        self._wake.set()
        return schedule

    def get(self, id: str) -> Schedule:
        """Raises NotFound."""
        schedule = self._schedules.get(id)
        if schedule is None:
            raise NotFound(f"no schedule {id!r}")
        return schedule

    def schedules(self) -> list[Schedule]:
        """From the oldest on."""
        return [self._schedules[id] for id in sorted(self._schedules)]

    async def remove(self, id: str) -> Schedule:
        """Class power. A run that was submitted goes on. Raises NotFound."""
        schedule = self.get(id)
        batch = Batch()
        batch.delete(_key(id))
        sequence = self._kv.write(batch)
        del self._schedules[id]  # before any await: whoever serves it now stores nothing more
        self._not_before_ns.pop(id, None)
        self._busy.pop(schedule.last_execution_id, None)
        await self._kv.synced(sequence)
        return schedule

    def execution_ended(self, id: str) -> None:
        """Tells that an execution has ended, so that a schedule which waits for it goes on at
        once. (It would notice by itself within a second.)"""
        schedule_id = self._busy.pop(id, None)
        if schedule_id is not None:
            self._not_before_ns.pop(schedule_id, None)
            self._wake.set()

    async def run(self) -> None:
        """For ever. An error that is not of the tree ends it."""
        while True:
            self._wake.clear()
            wait_ns = await self.step()
            try:
                async with asyncio.timeout(wait_ns / 1e9):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> int:
        """Does what is due by now; how long to wait, at most CHECK_NS."""
        now_ns, monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        due = [
            schedule.id
            for schedule in self._schedules.values()
            if plan.is_due(schedule, now_ns)
            and self._not_before_ns.get(schedule.id, 0) <= monotonic_ns
        ]
        for at in range(0, len(due), _TOGETHER):
            async with asyncio.TaskGroup() as group:
                for id in due[at : at + _TOGETHER]:
                    group.create_task(self._serve(id))
        return self._wait_ns()

    def _wait_ns(self) -> int:
        now_ns, monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        wait_ns = CHECK_NS
        for schedule in self._schedules.values():
            if schedule.pending_ns or schedule.next_ns:
                due_ns = 0 if schedule.pending_ns else schedule.next_ns - now_ns
                held_ns = self._not_before_ns.get(schedule.id, 0) - monotonic_ns
                wait_ns = min(wait_ns, max(due_ns, held_ns, 0))
        return wait_ns

    async def _serve(self, id: str) -> None:
        """Brings one schedule up to date, as far as that goes now."""
        for _ in range(_IN_A_ROW):
            schedule = self._schedules.get(id)
            if schedule is None:
                return
            try:
                onward = await self._advance(schedule)
            except SpearError as error:  # of the store: what was known before is still true
                self._put_off(schedule, error)
                return
            if not onward:
                return

    async def _advance(self, schedule: Schedule) -> bool:
        """One choice or one run; whether to go on at once."""
        if schedule.pending_ns:
            return await self._submit_chosen(schedule)
        busy = await self._is_busy(schedule)
        chosen = plan.choose(schedule, self._clock.now_ns(), busy=busy)
        return chosen is not schedule and await self._change(schedule, chosen)

    async def _is_busy(self, schedule: Schedule) -> bool:
        """Whether the schedule has to wait for its last run; if so, it is looked at again later."""
        last = schedule.last_execution_id
        if schedule.spec.overlap or not last or not plan.is_due(schedule, self._clock.now_ns()):
            return False
        self._busy[last] = schedule.id  # before looking, so that no end goes unheard
        self._not_now(schedule.id, _AGAIN_NS)
        if not await self._ended(last):
            return True
        self._busy.pop(last, None)
        self._not_before_ns.pop(schedule.id, None)
        return False

    async def _submit_chosen(self, schedule: Schedule) -> bool:
        spec = schedule.spec
        invocation = msgspec.structs.replace(
            spec.invocation, idempotency_key=plan.run_key(schedule)
        )
        try:
            execution = await self._submit(spec.task, spec.input, invocation)
        except SpearError as error:
            if error.retryable:
                self._put_off(schedule, error)
                return False
            self._report(schedule, error)
            return await self._change(schedule, plan.gave_up(schedule))
        done = plan.ran(schedule, execution.id)
        # The next choice is stored together with this run, if it need not wait for its end.
        return await self._change(schedule, plan.choose(done, self._clock.now_ns(), busy=True))

    def _put_off(self, schedule: Schedule, error: SpearError) -> None:
        """To be tried again; the first of several errors in a row is reported."""
        if schedule.id not in self._not_before_ns:
            self._report(schedule, error)
        self._not_now(schedule.id, _again_ns(error))

    def _not_now(self, id: str, wait_ns: int) -> None:
        if id in self._schedules:
            self._not_before_ns[id] = self._clock.monotonic_ns() + wait_ns

    async def _change(self, old: Schedule, new: Schedule) -> bool:
        """Stores it durably, then knows it. False where the schedule was removed meanwhile."""
        if self._schedules.get(old.id) is not old:
            return False
        await self._store(new)
        if self._schedules.get(old.id) is not old:
            return False
        self._schedules[old.id] = new
        self._not_before_ns.pop(old.id, None)
        return True

    async def _store(self, schedule: Schedule) -> None:
        batch = Batch()
        batch.put(_key(schedule.id), _ENCODER.encode(schedule))
        sequence = self._kv.write(batch)  # in one step with the check before
        await self._kv.synced(sequence)


def _again_ns(error: SpearError) -> int:
    after_ms = error.retry_after_ms if isinstance(error, QueueFull) else 0
    return max(_AGAIN_NS, after_ms * 1_000_000)


def _key(id: str) -> bytes:
    return PREFIX + id.encode()


def _decode(key: bytes, value: bytes) -> Schedule:
    try:
        return _DECODER.decode(value)
    except msgspec.DecodeError as error:
        raise KvDamaged(f"the row {key!r} is no schedule: {error}") from error

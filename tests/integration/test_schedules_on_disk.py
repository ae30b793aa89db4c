"""Schedules and webhooks over the store on disk: each process goes on where the last one ended."""

from __future__ import annotations

from pathlib import Path

from manual_clock import ManualClock

from spear.clock import Ids
from spear.kv.batch import Batch
from spear.kv.rocks import open_rocks
from spear.records.execution import Execution, Invocation
from spear.records.schedule import ScheduleSpec
from spear.spearlet.schedules.scheduler import Scheduler
from spear.spearlet.webhooks.delivery import rows_for
from spear.spearlet.webhooks.sender import WebhookSender

MINUTE_NS = 60 * 10**9


async def test_schedules_and_deliveries_are_there_after_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    keys: list[str] = []

    async def submit(task: str, input: bytes, invocation: Invocation) -> Execution:
        keys.append(invocation.idempotency_key)
        return Execution(id=f"run {len(keys)}")

    async def ended(id: str) -> bool:
        return True

    spec = ScheduleSpec(task="t", cron="* * * * *", missed="all", input=b"in")
    for life in range(3):
        kv = open_rocks(str(tmp_path / "kv"))
        scheduler = Scheduler(kv, clock, Ids(clock), submit, ended, lambda schedule, error: None)
        scheduler.load()
        sender = WebhookSender(kv, clock, b"key", lambda id, why: None)
        sender.load()
        assert sender.stats()["waiting"] == life
        if life == 0:
            assert (await scheduler.add(spec)).durability == "power"
        while await scheduler.step() == 0:
            pass
        batch = Batch()
        for key, value in rows_for(Execution(id=f"e{life}", status="failed"), "http://a/"):
            batch.put(key, value)
        await kv.commit(batch)
        await kv.close()
        clock.advance(30 * MINUTE_NS)
    assert len(keys) == len(set(keys)) == 60

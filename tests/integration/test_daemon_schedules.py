"""Schedules of a daemon: it runs them by itself, over deaths, and makes up for its absence as told.

Rule: the daemon's clocks begin in the middle of an hour and go on by whole hours where the test
says so, so that it is known how often the full hour was struck.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon, until

from spear.records.schedule import Schedule, ScheduleSpec

MINUTE_NS = 60 * 10**9
HOUR_NS = 60 * MINUTE_NS
HOURLY = "0 * * * *"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        made.pass_ns(HOUR_NS * 3 // 2 - time.time_ns() % HOUR_NS)
        yield made


async def runs(daemon: RealDaemon, schedule: Schedule, count: int, missed: int = 0) -> None:
    """Once it has run so often and has given up so many due times."""

    async def reached() -> bool:
        now = await daemon.client.schedule(schedule.id)
        return now.runs >= count and now.missed >= missed

    await until(reached)


async def ended(daemon: RealDaemon, task: str) -> list[str]:
    """The statuses of all executions of a task, once all have ended."""
    while True:
        page = await daemon.client.executions(task=task, limit=1000)
        assert not page.next_page_token
        if all(execution.ended for execution in page.executions):
            return [execution.status for execution in page.executions]


async def test_an_interval_and_a_moment_are_kept(daemon: RealDaemon) -> None:
    client = await daemon.live()
    for task in ("often", "once"):
        await daemon.register("hello", name=task)
    often = await client.add_schedule(ScheduleSpec(task="often", every_ns=100_000_000))
    await runs(daemon, often, 3)
    at_ns = time.time_ns() + daemon.ahead_ns + MINUTE_NS
    once = await client.add_schedule(ScheduleSpec(task="once", at_ns=at_ns))
    assert await ended(daemon, "once") == []
    daemon.pass_ns(MINUTE_NS)
    await runs(daemon, once, 1)
    done = await client.remove_schedule(often.id)
    once = await client.schedule(once.id)
    assert (once.runs, once.missed, once.next_ns) == (1, 0, 0)
    assert await ended(daemon, "once") == ["completed"]
    assert await ended(daemon, "often") == ["completed"] * done.runs
    await daemon.die()
    client = await daemon.live()
    daemon.pass_ns(10 * MINUTE_NS)  # less than executions are remembered
    assert await client.schedules() == [once]
    assert await ended(daemon, "once") == ["completed"]


async def test_each_full_hour_is_run_and_those_of_an_absence_as_the_policy_says(
    daemon: RealDaemon,
) -> None:
    """The clock is set beyond a full hour while it lives, and beyond five while it is dead."""
    client = await daemon.live(SPEARLET_HISTORY_RETENTION="1d")
    made: dict[str, Schedule] = {}
    for missed in ("skip", "once", "all"):
        await daemon.register("hello", name=missed)
        spec = ScheduleSpec(task=missed, cron=HOURLY, missed=missed, input=b"in")
        made[missed] = await client.add_schedule(spec)
    assert {schedule.runs for schedule in await client.schedules()} == {0}
    daemon.pass_ns(HOUR_NS)
    await runs(daemon, made["skip"], 0, missed=1)
    await runs(daemon, made["once"], 1)
    await runs(daemon, made["all"], 1)
    for missed in ("once", "all"):  # else their outcome would be unknown
        assert await ended(daemon, missed) == ["completed"]
    await daemon.die()
    daemon.pass_ns(5 * HOUR_NS)
    client = await daemon.live(SPEARLET_HISTORY_RETENTION="1d")
    for missed, wanted in {"skip": (0, 6), "once": (2, 4), "all": (6, 0)}.items():
        await runs(daemon, made[missed], *wanted)
        now = await client.schedule(made[missed].id)
        assert (now.runs, now.missed) == wanted, missed
        assert await ended(daemon, missed) == ["completed"] * wanted[0]

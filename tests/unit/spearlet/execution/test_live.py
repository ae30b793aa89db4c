"""An execution is waited for, followed and cancelled alike before it begins and after."""

from __future__ import annotations

import asyncio
import threading

import pytest

from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubRun
from spear.runtime.waiting import drive
from spear.spearlet.execution.execution import Execution
from spear.spearlet.execution.live import Live

INVOCATION = Invocation(timeout_ns=1, memory_bytes_max=1, output_bytes_max=1, log_bytes_max=1)


def pending() -> Live:
    return Live(
        Execution(
            "id", task_name="t", node_name="n", artifact="d", created_ns=1, invocation=INVOCATION
        )
    )


async def end_of(live: Live) -> None:
    await live


def test_a_pending_execution_is_seen_as_pending() -> None:
    live = pending()
    assert (live.execution.status, live.ended, live.run) == ("pending", False, None)


async def test_who_waits_for_a_pending_execution_waits_for_its_run() -> None:
    live, run = pending(), StubRun(INVOCATION)
    wait = asyncio.create_task(end_of(live))
    await asyncio.sleep(0)
    live.begin(run)
    await asyncio.sleep(0)
    assert not wait.done()
    run.finish()
    await asyncio.wait_for(wait, 60)
    assert live.ended


def test_a_thread_waits_for_a_pending_execution_too() -> None:
    live, run = pending(), StubRun(INVOCATION)
    thread = threading.Thread(target=lambda: drive(end_of(live)))
    thread.start()
    live.begin(run)
    run.finish()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancel_reaches_the_guest_with_its_reason(begun: bool) -> None:
    live, run = pending(), StubRun(INVOCATION)
    if begun:
        live.begin(run)
    live.cancel("enough")
    live.cancel("again")
    if not begun:
        live.begin(run)
    assert (run.outcome.status, run.outcome.message) == ("terminated", "enough")


async def test_a_beginning_is_a_change() -> None:
    live, run = pending(), StubRun(INVOCATION)
    change = asyncio.create_task(live.changed())
    await asyncio.sleep(0)
    live.begin(run)
    assert not await asyncio.wait_for(change, 60)
    run.log("line")
    assert not await asyncio.wait_for(live.changed(), 60)
    run.finish()
    assert await asyncio.wait_for(live.changed(), 60)

"""What of a record decides when it runs: priority, age, reservations, the draw of a back-off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import DIGEST, Bench, bench, until

from spear.records.execution import Invocation
from spear.records.task import Resources, Retry, TaskSpec

SECOND = 10**9


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        yield made


async def order(node: Bench, first: int, count: int) -> list[bytes]:
    """The inputs of what waits, in the order it runs, from the guest that has this number on."""
    seen = []
    for at in range(first, first + count):
        run = await node.run(at)
        seen.append(run.invocation.stdin)
        run.finish()
    return seen


async def test_the_more_urgent_runs_first(node: Bench):
    services = await node.ready(concurrency=1)
    await services.submit("work", b"first")
    for priority in ("low", "normal", "urgent"):
        await services.submit("work", priority.encode(), Invocation(priority=priority))
    (await node.run(0)).finish()
    assert await order(node, 1, 3) == [b"urgent", b"normal", b"low"]


async def test_what_has_waited_in_an_earlier_process_is_that_much_older(node: Bench):
    services = await node.ready(concurrency=1)
    for input in (b"lost in the crash", b"the next to run"):
        await services.submit("work", input)
    await services.submit("work", b"old", Invocation(priority="low"))
    await node.run(0)
    node.clock.advance(60 * SECOND)  # more than what low stands behind normal
    services = await node.crash()
    await services.submit("work", b"new")
    await services.submit("work", b"newer", Invocation(priority="high"))
    assert await order(node, 0, 4) == [b"the next to run", b"old", b"newer", b"new"]


async def test_a_clock_that_was_set_back_makes_nothing_younger_than_new(node: Bench):
    services = await node.ready(concurrency=1)
    for input in (b"lost in the crash", b"the next to run", b"old"):
        await services.submit("work", input)
    await node.run(0)
    node.clock.advance(-3600 * SECOND)
    services = await node.crash()
    node.clock.advance(SECOND)
    await services.submit("work", b"new")
    assert await order(node, 0, 3) == [b"the next to run", b"old", b"new"]


@pytest.mark.parametrize("what", ["cpu_millis", "memory_bytes"])
async def test_what_reserves_more_than_is_free_waits_for_who_has_it(node: Bench, what: str):
    services = await node.ready()
    admission = services._parts.admission
    whole = {"cpu_millis": admission._cpu_max, "memory_bytes": admission._memory_max}[what]
    spec = TaskSpec(name="work", artifact=DIGEST, resources=Resources(**{what: whole // 2 + 1}))
    await services.update(spec)
    await services.submit("work", b"one")
    await services.submit("work", b"two")
    run = await node.run(0)
    await until(lambda: services._executions.stats()["queued"] == 1)
    assert len(node.runtime.runs) == 1
    run.finish()
    (await node.run(1)).finish()


async def test_the_wait_before_another_attempt_is_drawn(node: Bench, monkeypatch):
    retry = Retry(attempts=9, backoff_ns=SECOND, backoff_max_ns=SECOND, on=("TRAP",))
    services = await node.ready(retry=retry)
    waits = []
    for draw in (0x40, 0x80, 0xC0):
        monkeypatch.setattr(node.clock, "random_bytes", lambda count, d=draw: bytes([d] * count))
        accepted = await services.submit("work")
        (await node.run(len(node.runtime.runs))).finish("failed", "trap")
        await until(lambda: services._executions.stats()["resting"] == 1)
        pending = await services.execution(accepted.id)
        waits.append((pending.next_attempt_ns - node.clock.now_ns()) * 256 // SECOND)
        await services.cancel(accepted.id, "enough")
    assert waits == [0x40, 0x80, 0xC0]

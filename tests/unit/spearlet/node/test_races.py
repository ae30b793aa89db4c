"""Two things that happen in one turn of the loop: neither is lost, whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_runs import HANG_S, Bench, bench, until

from spear.spearlet.node.work import ENDING


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        yield made


async def ending(node: Bench) -> tuple[str, asyncio.Task[object]]:
    """An execution whose end is written when the turn is over."""
    services = await node.ready()
    call = asyncio.ensure_future(services.invoke("work"))
    run = await node.run()
    (work,) = services._executions.works()
    run.finish()
    await until(lambda: work.stage == ENDING)
    return work.execution.id, call


async def test_who_cancels_what_is_about_to_end_hears_of_its_end(node: Bench):
    id, call = await ending(node)
    async with asyncio.timeout(HANG_S):
        cancelled = await node.services.cancel(id)
    assert cancelled.status == "completed"
    await call


async def test_a_node_that_drains_as_an_execution_ends_is_drained(node: Bench):
    _, call = await ending(node)
    async with asyncio.timeout(HANG_S):
        await node.services.drain()
    await call


async def test_a_watcher_that_is_slow_with_the_first_record_still_hears_of_the_end(node: Bench):
    services = await node.ready()
    call = asyncio.ensure_future(services.invoke("work"))
    run = await node.run()
    (work,) = services._executions.works()
    changes = services.watch(id=work.execution.id)
    assert (await anext(changes)).status == "running"
    run.finish()
    await call
    async with asyncio.timeout(HANG_S):
        assert [one.status async for one in changes] == ["completed"]
    assert not services._parts.events._watchers

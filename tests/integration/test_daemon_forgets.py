"""What a daemon does by itself as time passes: warm instances are kept and let go, old executions
leave with all that belongs to them.

Rule: nobody asks it to; the test only lets time pass for its clocks and looks. Real guests stamp
their ends by the machine's clock, so it is the time of their acceptance that grows old here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon, until

from spear.errors import NotFound
from spear.records.execution import Execution, Invocation
from spear.records.task import Pool

MINUTE_NS = 60 * 10**9
POOL = Pool(min=1, max=3, idle_ns=10 * MINUTE_NS, isolation="shared")
LARGE = bytes(range(256)) * 1000  # a result that lies in a file


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        yield made


async def call(daemon: RealDaemon, function: str, *args: int) -> Execution:
    return await daemon.client.invoke("reactor", b"", Invocation(function=function, call_args=args))


async def warm(daemon: RealDaemon) -> list[str]:
    return sorted(instance.id for instance in await daemon.client.instances(task="reactor"))


async def test_idle_instances_are_let_go_down_to_the_pool_s_least(daemon: RealDaemon) -> None:
    client = await daemon.live()
    await daemon.register("reactor", pool=POOL, concurrency=3)
    calls = await asyncio.gather(*(call(daemon, "nap", 300) for _ in range(6)))
    assert {execution.status for execution in calls} == {"completed"}
    made = await warm(daemon)
    assert 2 <= len(made) <= 3
    assert made == sorted({execution.instance_id for execution in calls})

    async def least() -> bool:
        daemon.pass_ns(POOL.idle_ns)
        return len(await warm(daemon)) == 1

    await until(least)
    (left,) = await warm(daemon)
    assert left in made
    assert (await call(daemon, "count")).instance_id == left
    assert (await client.stats())["runtime"]["live"] == 0
    await daemon.die()
    await daemon.live()

    async def filled() -> bool:
        return len(await warm(daemon)) == 1

    await until(filled)  # before anybody calls
    (fresh,) = await warm(daemon)
    assert (await call(daemon, "count")).value == (1,)
    assert await warm(daemon) == [fresh] != [left]


def kept(daemon: RealDaemon) -> set[str]:
    """Files of results and logs."""
    folders = (daemon.data / "results", daemon.data / "logs")
    return {str(path) for folder in folders for path in folder.rglob("*") if path.is_file()}


async def test_old_executions_leave_with_their_results_logs_and_keys(daemon: RealDaemon) -> None:
    age = {"SPEARLET_HISTORY_RETENTION": "1h"}
    client = await daemon.live(**age)
    await daemon.register("echo")
    await daemon.register("hello")
    keyed = Invocation(idempotency_key="monday")
    old = [
        await client.invoke("echo", LARGE),
        await client.invoke("hello", b"", keyed),
        await client.wait((await client.submit("hello")).id),
    ]
    assert any("results" in name for name in kept(daemon))
    logged = [execution for execution in old if execution.log_lines]
    assert logged
    await daemon.die()
    client = await daemon.live(**age)
    daemon.pass_ns(59 * MINUTE_NS)
    young = await client.invoke("echo", LARGE[::-1])
    assert (await client.invoke("hello", b"", keyed)).id == old[1].id
    await client.collect_garbage()
    assert (await client.stats())["history"]["count"] == 4
    daemon.pass_ns(2 * MINUTE_NS)

    async def one_left() -> bool:
        return (await client.stats())["history"]["count"] == 1

    await until(one_left)
    page = await client.executions()
    assert [execution.id for execution in page.executions] == [young.id]
    for execution in old:
        with pytest.raises(NotFound):
            await client.execution(execution.id)
    for execution in logged:
        with pytest.raises(NotFound):
            await anext(client.logs(execution.id))
    assert b"".join([chunk async for chunk in client.read_result(young.id)]) == LARGE[::-1]
    assert len([name for name in kept(daemon) if "results" in name]) == 1
    assert (await client.invoke("hello", b"", keyed)).id not in {one.id for one in old}

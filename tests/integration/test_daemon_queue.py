"""Ten thousand executions that wait at a daemon: taken or refused with when to come back, all ended
once, and nothing of them left in memory.

Rule: guests that never end hold all places while the queue fills, so that it is known what waits;
how often each ran is counted by the guests themselves, in an object of the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon, until

from spear.errors import QueueFull
from spear.records.execution import Execution, Invocation

QUEUE, BEYOND, PLACES = 10_000, 200, 64
TAKEN_KIB_MAX = 48 << 10  # by 10,000 that waited, while allocators and the store's memory grow
ROUNDS_SOAK = 20
GROWTH_KIB_MAX = 32 << 10  # by the last three quarters: a fifth of a KiB each
LIMITS = {
    "SPEARLET_EXECUTOR_MAX_PARKED": str(PLACES),
    "SPEARLET_QUEUE_NODE": str(QUEUE),
    "SPEARLET_QUEUE_TASK": str(QUEUE),
    "SPEARLET_HISTORY_COUNT": "1000000",
}
NOW = Invocation(timeout_ns=3600 * 10**9)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        await made.live(**LIMITS)
        yield made


async def executions(daemon: RealDaemon) -> dict[str, int]:
    return (await daemon.client.stats())["executions"]


async def fill(daemon: RealDaemon) -> list[Execution]:
    """Holds all places, fills the queue behind them and beyond, and lets it run empty; what was
    accepted."""
    client = daemon.client
    held = [await client.submit("sleeper") for _ in range(PLACES)]

    async def submitted() -> Execution | QueueFull:
        try:
            return await client.submit("increment", b"", NOW)
        except QueueFull as error:
            return error

    answers = await asyncio.gather(*(submitted() for _ in range(QUEUE + BEYOND)))
    accepted = [answer for answer in answers if isinstance(answer, Execution)]
    refused = [answer for answer in answers if isinstance(answer, QueueFull)]
    assert (len(accepted), len(refused)) == (QUEUE, BEYOND)
    assert min(answer.retry_after_ms for answer in refused) > 0
    assert (await executions(daemon))["queued"] == QUEUE
    for execution in held:
        await client.cancel(execution.id)

    async def empty() -> bool:
        return not (await executions(daemon))["live"]

    await until(empty)
    return accepted


async def all_ended_once(daemon: RealDaemon, accepted: list[Execution]) -> None:
    client = daemon.client
    (counter,) = (await client.list_objects()).objects
    _, value = await client.get_object(counter.key)
    assert int.from_bytes(value, "little") == len(accepted) == len({one.id for one in accepted})
    assert (await executions(daemon))["completed"] == len(accepted)
    ends = await asyncio.gather(*(client.execution(one.id) for one in accepted[::20]))
    assert {(end.status, end.attempt) for end in ends} == {("completed", 1)}


async def rounds(daemon: RealDaemon, count: int) -> list[int]:
    """What was resident before and after each round."""
    await daemon.register("sleeper", args=("-1",))
    await daemon.register("increment", args=("ran", "1"))
    accepted = [await daemon.client.invoke("increment")]
    resident = [daemon.resident_kib()]
    for _ in range(count):
        accepted += await fill(daemon)
        resident.append(daemon.resident_kib())
    await all_ended_once(daemon, accepted)
    return resident


async def test_ten_thousand_wait_and_all_end_once(daemon: RealDaemon) -> None:
    before, after = await rounds(daemon, 1)
    assert after - before < TAKEN_KIB_MAX


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_ten_thousand_wait_again_and_again(daemon: RealDaemon) -> None:
    resident = await rounds(daemon, ROUNDS_SOAK)
    assert resident[-1] - resident[ROUNDS_SOAK // 4] < GROWTH_KIB_MAX, resident

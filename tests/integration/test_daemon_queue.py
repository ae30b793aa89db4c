"""Ten thousand executions that wait at a daemon: taken or refused with when to come back, all ended
once, and nothing of them left in memory.

Rule: guests that never end hold all places while the queue fills, so that it is known what waits;
how often each ran is counted by the guests themselves, in an object of the node.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon, until

from spear.errors import QueueFull
from spear.records.execution import Execution, Invocation

QUEUE, BEYOND, PLACES = 10_000, 200, 4
GROWTH_KIB_MAX = 16 << 10  # 1.6 KiB each would be left of them
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


async def fill(daemon: RealDaemon, first: int) -> list[Execution]:
    """Holds all places, fills the queue behind them and beyond, and lets it run empty; what was
    accepted."""
    client = daemon.client
    held = [await client.submit("sleeper") for _ in range(PLACES)]

    async def submitted(number: int) -> Execution | QueueFull:
        try:
            return await client.submit("increment", b"", NOW)
        except QueueFull as error:
            return error

    answers = await asyncio.gather(*(submitted(first + n) for n in range(QUEUE + BEYOND)))
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


async def listed(daemon: RealDaemon) -> Counter[str]:
    """The ids of all that completed, page by page."""
    found: Counter[str] = Counter()
    token = ""
    while True:
        page = await daemon.client.executions(
            task="increment", status="completed", limit=1000, page_token=token
        )
        found.update(execution.id for execution in page.executions)
        token = page.next_page_token
        if not token:
            return found


async def ran(daemon: RealDaemon, rounds: int) -> None:
    client = daemon.client
    await daemon.register("sleeper", args=("-1",))
    await daemon.register("increment", args=("ran", "1"))
    accepted: list[Execution] = []
    resident = []
    for _ in range(rounds):
        accepted += await fill(daemon, len(accepted))
        resident.append(daemon.resident_kib())
    assert await listed(daemon) == Counter(execution.id for execution in accepted)
    page = await client.list_objects()
    (counter,) = page.objects
    _, value = await client.get_object(counter.key)
    assert int.from_bytes(value, "little") == len(accepted)
    print(resident)
    assert resident[-1] - resident[-2] < GROWTH_KIB_MAX, resident


async def test_ten_thousand_wait_and_all_end_once(daemon: RealDaemon) -> None:
    await ran(daemon, 2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_ten_thousand_wait_again_and_again(daemon: RealDaemon) -> None:
    await ran(daemon, 20)

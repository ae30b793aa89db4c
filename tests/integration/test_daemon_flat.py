"""A daemon that is called again and again keeps its size.

Rule: what is bounded (history, tables of the store) has reached its bounds before the first look;
in the short test they are small.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon

BOUNDS = {"SPEARLET_HISTORY_COUNT": "1000", "SPEARLET_STORAGE_MAX_CACHE_SIZE_MB": "8"}
IN_FLIGHT = 64
CALLS, GROWTH_KIB_MAX = 6_400, 12 << 10
CALLS_SOAK, PART = 1_000_000, 50_000  # the size is looked at after each part
WARM_PARTS = 6  # by then the tables of the store have been full and were turned
GROWTH_KIB_MAX_SOAK = 4 << 10  # over 500,000 calls: less than nine bytes each


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        yield made


async def calls(daemon: RealDaemon, count: int) -> int:
    """How many were made."""

    async def caller() -> None:
        for _ in range(count // IN_FLIGHT):
            assert (await daemon.client.invoke("noop")).completed

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count // IN_FLIGHT * IN_FLIGHT


async def all_ended(daemon: RealDaemon, made: int) -> None:
    stats = await daemon.client.stats()
    assert stats["executions"]["completed"] == made
    assert stats["runtime"]["live"] == 0


def held(daemon: RealDaemon) -> tuple[int, int]:
    """Descriptors and threads."""
    process = f"/proc/{daemon.process.pid}"
    return len(os.listdir(f"{process}/fd")), len(os.listdir(f"{process}/task"))


async def test_calls_leave_nothing_in_memory(daemon: RealDaemon) -> None:
    await daemon.live(**BOUNDS)
    await daemon.register("noop")
    made = await calls(daemon, CALLS)
    before, threads = daemon.resident_kib(), held(daemon)[1]
    made += await calls(daemon, CALLS)
    await all_ended(daemon, made)
    assert daemon.resident_kib() - before < GROWTH_KIB_MAX
    assert held(daemon)[1] == threads


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_million_calls_leave_nothing_in_memory(daemon: RealDaemon) -> None:
    """With the bounds that a node has unless told otherwise."""
    await daemon.live()
    await daemon.register("noop")
    made, seen = 0, []
    while made < CALLS_SOAK:
        made += await calls(daemon, PART)
        seen.append((daemon.highest_kib(), *held(daemon)))
        print(f"{made:9,} calls: {seen[-1][0]:,} KiB, {seen[-1][1]} descriptors")
    await all_ended(daemon, made)
    middle = len(seen) // 2 + WARM_PARTS // 2
    earlier, later = seen[WARM_PARTS:middle], seen[middle:]
    sizes, descriptors, threads = zip(*later, strict=True)
    assert max(sizes) - max(one[0] for one in earlier) < GROWTH_KIB_MAX_SOAK, seen
    assert max(descriptors) <= max(one[1] for one in earlier) + 8, seen  # files of the store
    assert set(threads) == {earlier[-1][2]}, seen

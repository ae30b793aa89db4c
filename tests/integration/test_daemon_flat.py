"""A daemon that is called again and again keeps its size.

Rule: what is bounded (history, tables of the store) is small here, and has reached its bounds
before the first look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from real_daemon import RealDaemon, real_daemon

BOUNDS = {"SPEARLET_HISTORY_COUNT": "1000", "SPEARLET_STORAGE_MAX_CACHE_SIZE_MB": "8"}
IN_FLIGHT = 64
CALLS, GROWTH_KIB_MAX = 6_400, 12 << 10
CALLS_SOAK, GROWTH_KIB_MAX_SOAK = 1_000_000, 24 << 10  # less than malloc's least block each


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        await made.live(**BOUNDS)
        await made.register("noop")
        yield made


async def calls(daemon: RealDaemon, count: int) -> None:
    async def caller() -> None:
        for _ in range(count // IN_FLIGHT):
            assert (await daemon.client.invoke("noop")).completed

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


async def growth_kib(daemon: RealDaemon, ahead: int, count: int) -> int:
    await calls(daemon, ahead)
    before = daemon.resident_kib()
    await calls(daemon, count)
    stats = await daemon.client.stats()
    made = ahead // IN_FLIGHT * IN_FLIGHT + count // IN_FLIGHT * IN_FLIGHT
    assert stats["executions"]["completed"] == made
    assert stats["runtime"]["live"] == 0
    return daemon.resident_kib() - before


async def test_calls_leave_nothing_in_memory(daemon: RealDaemon) -> None:
    assert await growth_kib(daemon, CALLS, CALLS) < GROWTH_KIB_MAX


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_million_calls_leave_nothing_in_memory(daemon: RealDaemon) -> None:
    assert await growth_kib(daemon, CALLS_SOAK // 4, CALLS_SOAK) < GROWTH_KIB_MAX_SOAK

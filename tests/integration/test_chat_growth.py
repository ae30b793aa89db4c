"""What agents that ask models hold while they wait, and what they leave: measured, with a model in
a process of its own.

Rule: bounds tell a leak or a copy from what there must be; bench_resident.py has the figures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chat_node import chat_node, openai

ROOT = Path(__file__).resolve().parents[2]
AGENTS, CHATS = 300, 500
AGENT_KIB_MAX = 96  # of 45 or so
WAVE_KIB_MAX = 8 * AGENTS  # what a later wave may hold more than the one before it
GROWTH_KIB_MAX = 1024  # by any number of chats


def waves(guest: str) -> list[dict[str, int]]:
    command = [sys.executable, ROOT / "bench/waiting.py", guest, str(AGENTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("guest", ["waiter_small", "waiter_large"])
def test_agents_that_wait_for_a_model_hold_little_and_leave_nothing(guest: str) -> None:
    one, ended, *more = waves(guest)
    waiting, after = more[::2], more[1::2]
    assert len(waiting) == 3
    assert waiting[0]["resident_kib"] - one["resident_kib"] < AGENT_KIB_MAX * AGENTS
    assert waiting[2]["resident_kib"] - waiting[1]["resident_kib"] < WAVE_KIB_MAX
    assert after[2]["resident_kib"] - after[1]["resident_kib"] < WAVE_KIB_MAX
    for each in after:
        assert (each["descriptors"], each["tasks"]) == (ended["descriptors"], ended["tasks"])


@contextmanager
def model() -> Iterator[str]:
    """Its base URL."""
    command = [sys.executable, ROOT / "bench/model_server.py", "0", "0", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def held() -> tuple[int, int, int]:
    """KiB of memory; descriptors, tasks."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors = len(os.listdir("/proc/self/fd"))
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024, descriptors, len(asyncio.all_tasks())


async def chats_leave_nothing(guests: int, chats: int) -> None:
    with model() as url:
        async with chat_node(openai(url)) as node:

            async def one_guest() -> None:
                run = node.start("measured", "0", str(chats), timeout_s=600.0)
                outcome = await run
                assert outcome.exit_code == 0, outcome
                assert len(run.output.splitlines()) == chats

            for _ in range(2):
                await one_guest()
            kib, *counts = held()
            for _ in range(guests):
                await one_guest()
            kib_after, *counts_after = held()
            assert counts_after == counts
            assert kib_after - kib < GROWTH_KIB_MAX
            assert node.usage.calls == (guests + 2) * chats


async def test_chats_over_http_leave_nothing() -> None:
    await chats_leave_nothing(2, CHATS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_hundred_thousand_chats_over_http_leave_nothing() -> None:
    await chats_leave_nothing(25, 4000)

"""Clients of a real daemon that vanish in the middle of a call, or stop reading.

Rule: those clients are processes of their own (`daemon_clients.py`), killed or stopped as a whole,
so that what the daemon sees is what the kernel says of them. It is judged by another client.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from daemon_child import READY_S
from real_daemon import RealDaemon, real_daemon, until

PROGRAM = Path(__file__).parents[1] / "daemon_clients.py"
RESULT_BYTES, READERS = 16_000_000, 4  # of each door
GROWTH_KIB_MAX = 96 << 10  # of 3 doors * 4 readers * 16 MB = 187,500 KiB that nobody takes
LINES = 20_000


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RealDaemon]:
    async with real_daemon(tmp_path) as made:
        await made.live(SPEARLET_FRAMES_ADDR="127.0.0.1:0")
        yield made


class Clients:
    """Another process, that speaks through each door of the daemon at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> list[str]:
        assert self.process.stdout is not None
        found = await asyncio.wait_for(self.process.stdout.readline(), READY_S)
        assert found, "the clients ended early"
        return found.decode().split()


@asynccontextmanager
async def clients(daemon: RealDaemon, *words: str) -> AsyncIterator[Clients]:
    doors = (f"unix:{daemon.doors['socket']}", daemon.doors["frames"], daemon.doors["grpc"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *doors, daemon.token(), *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    try:
        yield Clients(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def serves(daemon: RealDaemon) -> None:
    """Another client is answered, and a guest of its own runs."""
    assert (await daemon.client.invoke("hello")).output == b"Hello, SPEAR!\n"


async def ended(daemon: RealDaemon, id: str) -> bool:
    return (await daemon.client.execution(id)).ended


async def test_what_clients_called_ends_when_they_vanish_and_what_they_submitted_goes_on(
    daemon: RealDaemon,
) -> None:
    """On each door a call, a submission, and a wait for what somebody else has started."""
    client = daemon.client
    await daemon.register("sleeper", args=("-1",))
    await daemon.register("hello")
    mine = await client.submit("sleeper")
    async with clients(daemon, "vanish", mine.id) as others:
        called, submitted = [], []
        for _ in range(3):
            invoked, accepted = await others.line()
            called.append(invoked)
            submitted.append(accepted)
        assert (await client.stats())["executions"]["running"] == 7
        others.process.kill()
        for id in called:
            await until(partial(ended, daemon, id))  # who waits for it would keep it alive
            found = await client.execution(id)
            assert (found.status, found.cause) == ("terminated", "cancelled")
    await serves(daemon)
    for id in (*submitted, mine.id):
        assert (await client.execution(id)).status == "running"
        assert (await client.cancel(id)).status == "terminated"
    stats = await client.stats()
    assert (stats["executions"]["live"], stats["runtime"]["live"]) == (0, 0)


async def test_readers_that_stop_hold_up_nobody_and_cost_little_and_may_go_on(
    daemon: RealDaemon,
) -> None:
    """Results, a log that is followed, and the watch of all executions, each unread: the clients
    take one message of each and are then stopped; later they read the rest."""
    client = daemon.client
    await daemon.register("stdout_flood", args=(str(RESULT_BYTES), "1", "0"))
    await daemon.register("log_flood", args=(str(LINES), "500"))
    await daemon.register("hello")
    large = await client.invoke("stdout_flood")
    assert large.completed
    logged = await client.submit("log_flood")
    await client.wait(logged.id)
    kept = sum([len(lines) async for lines in client.logs(logged.id)])
    await serves(daemon)
    before = daemon.resident_kib()
    async with clients(daemon, "read", large.id, logged.id, str(READERS)) as others:
        assert await others.line() == ["reading"]
        others.process.send_signal(signal.SIGSTOP)
        for _ in range(300):
            await serves(daemon)
        assert daemon.resident_kib() - before < GROWTH_KIB_MAX
        others.process.send_signal(signal.SIGCONT)
        assert others.process.stdin is not None
        others.process.stdin.write(b"go on\n")
        for _ in range(3):
            lengths, lines = await others.line()
            assert lengths == ",".join([str(RESULT_BYTES)] * READERS)
            assert int(lines) == kept > 1000
    await serves(daemon)

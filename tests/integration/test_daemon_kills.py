"""A daemon under load is killed at random moments: what its clients were told holds afterwards.

Rule: what was told is written down outside of the daemon, by its clients, as they hear it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from guest_runs import guest_bytes

from spear.client.client import Client
from spear.errors import SpearError, Unreachable
from spear.records.execution import Execution, Invocation
from spear.records.task import TaskSpec

ROUNDS = 8
ROUNDS_SOAK = 1_000
CLIENTS = 8
READY_S = 60.0
TERMINAL = {"completed", "failed", "terminated", "timeout"}


class Told:
    """What clients heard: of executions that were accepted, and of their ends."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}  # id -> what it must give
        self.ended: dict[str, tuple[str, bytes]] = {}
        self.keys: dict[str, str] = {}

    def end(self, execution: Execution) -> None:
        told = (execution.status, execution.output)
        assert self.ended.setdefault(execution.id, told) == told


async def born(folder: Path) -> subprocess.Popen[bytes]:
    """A daemon that answers."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "LD_PRELOAD": os.environ.get("LD_PRELOAD", ""),
        # The executions of keys are asked for to the end: none may be forgotten.
        "SPEARLET_HISTORY_COUNT": "1000000",
        "SPEARLET_HISTORY_RETENTION": "1d",
    }
    command = [
        sys.executable, "-m", "spear.cli.spearlet", "--storage-path", str(folder / "data"),
        "--grpc-addr", "127.0.0.1:0", "--log-file", str(folder / "log"),
        "--ports-file", str(folder / "ports"),
    ]  # fmt: skip
    (folder / "ports").unlink(missing_ok=True)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    async with asyncio.timeout(READY_S):
        while not (folder / "ports").exists():
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            await asyncio.sleep(0.01)
    return process


def client_of(folder: Path) -> Client:
    return Client(f"unix:{folder / 'data' / 'spearlet.sock'}")


async def load(folder: Path, told: Told, draw: random.Random) -> None:
    """One client, until the daemon is gone."""
    async with client_of(folder) as client:
        while True:
            try:
                await one_call(client, told, draw)
            except Unreachable:
                return
            except SpearError as error:
                assert error.retryable, error


async def one_call(client: Client, told: Told, draw: random.Random) -> None:
    word = str(draw.randrange(1 << 30))
    call = Invocation(args=(word,))
    if draw.random() < 0.5:
        execution = await client.invoke("answer", b"text", call)
        assert word.encode() in execution.output
        told.end(execution)
        return
    key = f"key {draw.randrange(30)}" if draw.random() < 0.3 else ""
    call = Invocation(args=(key or word,), idempotency_key=key)
    accepted = await client.submit("answer", b"text", call)
    assert accepted.durability == "power"
    told.accepted[accepted.id] = key or word
    if key:
        assert told.keys.setdefault(key, accepted.id) == accepted.id
    if draw.random() < 0.5:
        told.end(await client.wait(accepted.id))


async def judge(folder: Path, told: Told) -> None:
    async with client_of(folder) as client:
        for id, word in told.accepted.items():
            ended = await client.wait(id)  # NotFound: an acceptance was lost
            assert ended.status in TERMINAL
            if ended.completed:
                assert word.encode() in ended.output
            else:
                assert ended.error is not None
                assert ended.error.code == "OUTCOME_UNKNOWN"
        for id, (status, output) in told.ended.items():
            ended = await client.wait(id)
            assert (ended.status, ended.output) == (status, output)
        async with asyncio.timeout(READY_S):  # those that nobody was told of end too
            while (await client.stats())["executions"]["live"]:
                await asyncio.sleep(0.01)


async def live_and_die(folder: Path, rounds: int, seed: int) -> None:
    draw, told = random.Random(seed), Told()
    process = await born(folder)
    async with client_of(folder) as client:
        artifact = await client.put_artifact(guest_bytes("answer"))
        await client.register(TaskSpec(name="answer", artifact=artifact.digest))
    for _ in range(rounds):
        clients = [asyncio.ensure_future(load(folder, told, draw)) for _ in range(CLIENTS)]
        await asyncio.sleep(draw.uniform(0.02, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        await asyncio.gather(*clients)
        process = await born(folder)
        await judge(folder, told)
        trim(told)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (folder / "log").read_text()[-2000:]
    assert told.keys


def trim(told: Told) -> None:
    """The node forgets too; what is judged again and again is the last few thousand."""
    for known in (told.accepted, told.ended):
        for id in list(known)[:-2_000]:
            del known[id]


@pytest.mark.timeout(300)
async def test_what_a_daemon_told_holds_after_sigkill(tmp_path: Path):
    await live_and_die(tmp_path, ROUNDS, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2, 6))
async def test_what_a_daemon_told_holds_after_many_kills(tmp_path: Path, seed: int):
    await live_and_die(tmp_path, ROUNDS_SOAK, seed)

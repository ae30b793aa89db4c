"""A daemon dies by SIGKILL while guests put durably: what they were answered is still there."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from guest_runs import guest_bytes
from object_runs import answers_of, input_of, put
from test_daemon_kills import born, client_of

from spear.errors import SpearError, Unreachable
from spear.records.task import TaskSpec

ROUNDS, CLIENTS, ENOUGH = 3, 4, 5


async def count_up(folder: Path, name: str, told: dict[str, int]) -> None:
    """Puts one number after the other, until the daemon is gone."""
    async with client_of(folder) as client:
        for number in range(told.get(name, 0) + 1, 1 << 30):
            calls = [put(name.encode(), b"%d" % number, -1, 1)]
            try:
                execution = await client.invoke("me", input_of(calls))
            except (Unreachable, SpearError):
                return
            assert answers_of(calls, execution.output)[0].result == 0
            told[name] = number


@pytest.mark.timeout(300)
async def test_what_guests_were_told_is_kept_holds_after_sigkill(tmp_path: Path) -> None:
    told: dict[str, int] = {}
    process = await born(tmp_path)
    async with client_of(tmp_path) as client:
        artifact = await client.put_artifact(guest_bytes("object_calls"))
        await client.register(TaskSpec(name="me", artifact=artifact.digest))
    for _ in range(ROUNDS):
        goal = sum(told.values()) + CLIENTS * ENOUGH
        names = [f"shared/{number}" for number in range(CLIENTS)]
        counting = [asyncio.ensure_future(count_up(tmp_path, name, told)) for name in names]
        async with asyncio.timeout(60):
            while sum(told.values()) < goal:
                await asyncio.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        await asyncio.gather(*counting)
        process = await born(tmp_path)
        async with client_of(tmp_path) as client:
            for name, number in told.items():
                assert int((await client.get_object(name))[1]) >= number
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0

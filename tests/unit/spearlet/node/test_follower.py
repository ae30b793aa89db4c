"""Guests are followed in small looks, and nothing that was looked at is news again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_runs import HANG_S, bench, until

from spear.runtime.stub import StubRun
from spear.spearlet.logs.sink import Sink
from spear.spearlet.node import follower
from spear.spearlet.node.follower import LINES_A_LOOK

LINES = 3 * LINES_A_LOOK + 1


def talkative(run: StubRun) -> None:
    for number in range(LINES):
        run.log(f"line {number}")
    run.finish()


async def test_what_a_guest_printed_is_seen_once_and_still_its_result(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.ready()
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run()
        run.write(b"printed")
        await until(lambda: not run._news)
        run.finish()
        assert (await running).output == b"printed"


async def test_an_end_just_behind_a_line_is_heard_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The pause is between two looks at what it says: its end does not wait for it."""
    monkeypatch.setattr(follower, "_PAUSE_S", 10 * HANG_S)
    async with bench(tmp_path) as node:
        services = await node.ready()
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run()
        run.log("one")
        await until(lambda: not run._news)
        run.log("two")
        run.write(b"printed")
        await asyncio.sleep(0)
        run.finish()
        async with asyncio.timeout(HANG_S):
            execution = await running
        assert execution.output == b"printed"
        assert await node.logged(execution.id) == ["one", "two"]


async def test_what_is_left_at_the_end_is_taken_in_turns_with_others(tmp_path: Path):
    async with bench(tmp_path) as node:
        services = await node.ready()
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run()
        talkative(run)
        await until(lambda: len(run._lines) < LINES)
        assert len(run._lines) == LINES - LINES_A_LOOK
        execution = await running
        assert await node.logged(execution.id) == [f"line {number}" for number in range(LINES)]


async def test_the_loop_is_others_between_two_looks_at_what_is_left(tmp_path: Path):
    """However many there are that have ended: they are not looked at in every turn."""
    async with bench(tmp_path) as node:
        services = await node.ready()
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run()
        talkative(run)
        await until(lambda: len(run._lines) < LINES)
        for _ in range(2 * LINES // LINES_A_LOOK):
            await asyncio.sleep(0)
        assert not running.done()
        await running


async def test_a_look_that_fails_does_not_miss_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        services = await node.ready()
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run()
        await until(lambda: services._executions.works()[0].run)

        def fails(*_: object) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(Sink, "append", fails)
        run.log("lost")
        await until(lambda: told)
        monkeypatch.undo()
        run.log("kept")
        run.finish()
        async with asyncio.timeout(HANG_S):
            execution = await running
        assert execution.completed
        assert (await node.logged(execution.id))[-1] == "kept"


async def test_one_that_says_much_at_once_loses_nothing(tmp_path: Path):
    async with bench(tmp_path, talkative) as node:
        services = await node.ready()
        node.trust()
        execution = await services.invoke("work")
        assert execution.completed
        assert await node.logged(execution.id) == [f"line {number}" for number in range(LINES)]
        services = await node.crash()
        assert await services.execution(execution.id) is not None
        assert len(await node.logged(execution.id)) == LINES

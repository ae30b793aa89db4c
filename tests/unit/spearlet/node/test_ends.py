"""Ends that could not be kept: written later, unless they were removed or the node closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from node_runs import HANG_S, Bench, answer, bench

from spear.errors import KvFull, LogUnavailable, NotFound
from spear.records.execution import Execution
from spear.spearlet.node import ends
from spear.spearlet.node.blobs import Blobs
from spear.spearlet.node.secrets import Hiding

LARGE = b"x" * 100_000


async def unkept(node: Bench, input: bytes = b"") -> Execution:
    """An execution whose end the disk had no room for."""
    services = await node.ready()
    running = asyncio.ensure_future(services.invoke("work", input))
    run = await node.run()
    node.store.full = True
    answer(run)
    execution = await running
    assert execution.durability == "volatile"
    return execution


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_AGAIN_S", 0.001)


async def test_one_that_is_removed_as_it_is_written_again_leaves_no_row(tmp_path: Path):
    async with bench(tmp_path) as node:
        execution = await unkept(node, LARGE)
        node.store.full = False
        node.services._executions._ends._write_again(execution.id)
        await node.services.remove(execution.id)
        for prefix in (b"exec", b"result/", b"live/"):
            assert not node.store.scan(prefix)


@pytest.mark.usefixtures("impatient")
async def test_one_that_was_removed_is_not_written_again(tmp_path: Path):
    async with bench(tmp_path) as node:
        execution = await unkept(node, LARGE)
        node.store.full = False
        await node.services.remove(execution.id)
        await asyncio.sleep(0.02)  # were it written again, it would be by now
        with pytest.raises(NotFound):
            await node.services.execution(execution.id)
        assert (await node.services.stats())["executions"]["unkept"] == 0
        await node.services.collect_garbage()
        assert not list((tmp_path / "results").rglob("??*/*"))
        services = await node.crash()
        with pytest.raises(NotFound):  # nor is what was written of its beginning still there
            await services.execution(execution.id)


@pytest.mark.usefixtures("impatient")
async def test_one_whose_removal_was_refused_is_kept_later(tmp_path: Path):
    async with bench(tmp_path) as node:
        execution = await unkept(node)
        with pytest.raises(KvFull):
            await node.services.remove(execution.id)
        node.store.full = False
        await until_kept(node)
        services = await node.crash()
        assert (await services.execution(execution.id)).completed


async def until_kept(node: Bench) -> None:
    while (await node.services.stats())["executions"]["unkept"]:
        await asyncio.sleep(0.001)


async def test_a_node_that_closes_keeps_it_at_once_and_leaves_no_timer(tmp_path: Path):
    async with bench(tmp_path) as node:
        execution = await unkept(node)
        node.store.full = False
        await node.stop()
        services = await node.start()
        assert (await services.execution(execution.id)).completed


@pytest.mark.parametrize("refused", [False, True])
async def test_one_that_is_being_removed_as_the_node_closes_is_gone(tmp_path: Path, refused: bool):
    """Unless the removal is refused."""
    async with bench(tmp_path) as node:
        execution = await unkept(node)
        node.store.full = False
        services = node.services

        async def forget(_: Execution) -> None:
            services._executions._ends.close()
            if refused:
                raise LogUnavailable("its log is elsewhere (planted)")

        services._history._forget = forget
        with pytest.raises(LogUnavailable) if refused else contextlib.nullcontext():
            await services.remove(execution.id)
        await services._parts.journal.kept()
        assert bool(node.store.scan(b"exec")) is refused


@pytest.mark.usefixtures("impatient")
async def test_a_node_that_is_closed_writes_no_more(tmp_path: Path):
    async with bench(tmp_path) as node:
        await unkept(node)
        store = node.store
        await node.stop()
        writes, store.full = store.writes, False
        await asyncio.sleep(0.02)  # were there a timer, it would have fired by now
        assert store.writes == writes


# ---- what nobody foresaw


async def spoilt(node: Bench, size: int) -> Execution:
    """An execution whose guest ended well; the node's log hears what failed."""
    told: list[str] = []
    node.said.failure = lambda event, error, **_: told.append(f"{event}: {error}")  # type: ignore[method-assign]
    node.environ = {"NODE_KEY": "a-secret-of-the-node"}
    services = await node.ready(env_from={"KEY": "NODE_KEY"}, webhook="http://127.0.0.1:1/hook")
    accepted = await services.submit("work")
    run = await node.run()
    run.write(b"x" * size)
    run.finish()
    async with asyncio.timeout(HANG_S):
        execution = await services.wait(accepted.id)
    assert told[0] == "an end could not be kept: planted"
    assert (await services.stats())["executions"]["live"] == 0
    assert (execution.status, execution.cause, execution.output) == ("failed", "internal", b"")
    assert execution.error is not None
    assert execution.error.code == "INTERNAL"
    assert execution.error.message == "its end could not be kept: RuntimeError: planted"
    return execution


def fails(*_: object, **__: object) -> None:
    raise RuntimeError("planted")


async def fails_later(*_: object, **__: object) -> None:
    await asyncio.sleep(0)
    fails()


@pytest.mark.parametrize(
    ("what", "name", "fault", "size"),
    [
        (Hiding, "now", fails, 10), (Hiding, "in_turns", fails_later, len(LARGE)),
        (Blobs, "put", fails_later, len(LARGE)),
    ],
)  # fmt: skip
async def test_one_whose_output_cannot_be_handled_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: type, name: str,
    fault: Callable[..., object], size: int,
):  # fmt: skip
    async with bench(tmp_path) as node:
        monkeypatch.setattr(what, name, fault)
        execution = await spoilt(node, size)
        assert execution.durability == "power"
        (notice,) = node.rows.scan(b"webhook/")
        assert b"failed" in notice[1]
        services = await node.crash()
        assert (await services.execution(execution.id)).error == execution.error


async def test_one_that_cannot_be_written_down_at_all_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        monkeypatch.setattr(ends.Ends, "write", fails)
        execution = await spoilt(node, 10)
        assert execution.durability == "volatile"

"""Ends that could not be kept: written later, unless they were removed or the node closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from node_runs import HANG_S, Bench, answer, bench

from spear.errors import KvFull, LogUnavailable, NotFound
from spear.records.execution import Execution
from spear.records.task import Pool
from spear.runtime.interface import LogLine
from spear.runtime.invocation import Invocation as RunInvocation
from spear.runtime.stub import StubProgram, StubRun
from spear.spearlet.node import ends, rows, telling
from spear.spearlet.node.blobs import Blobs
from spear.spearlet.node.events import Events
from spear.spearlet.node.executions import Executions
from spear.spearlet.node.family import Kin
from spear.spearlet.node.follower import Follower
from spear.spearlet.node.inputs import Inputs
from spear.spearlet.node.secrets import Hiding, Secrets
from spear.spearlet.node.services import NodeServices
from spear.spearlet.node.tallies import Tallies
from spear.spearlet.node.work import Work
from spear.spearlet.webhooks.sender import WebhookSender

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


async def test_one_that_cannot_be_written_down_at_all_is_told_and_written_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        with monkeypatch.context() as patch:
            patch.setattr(rows, "rows_of_end", fails)
            execution = await spoilt(node, 10)
            assert execution.durability == "volatile"
            node.services._executions._ends._again(execution.id)  # not yet
            assert await node.services.execution(execution.id) == execution
        await node.stop()
        services = await node.start()
        assert (await services.execution(execution.id)).error == execution.error


async def test_one_that_can_never_be_written_down_is_still_known_as_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also once other rows were written."""
    async with bench(tmp_path) as node:
        monkeypatch.setattr(rows, "rows_of_end", fails)
        execution = await spoilt(node, 10)
        await node.services.put_artifact(b"stub: another one")
        monkeypatch.undo()
        services = await node.crash()
        again = await services.execution(execution.id)
        assert again.error is not None
        assert again.error.code == "OUTCOME_UNKNOWN"


@pytest.mark.usefixtures("impatient")
async def test_one_that_can_be_written_down_later_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        with monkeypatch.context() as patch:
            patch.setattr(rows, "rows_of_end", fails)
            execution = await spoilt(node, 10)
        await until_kept(node)
        services = await node.crash()
        assert (await services.execution(execution.id)).error == execution.error


@pytest.mark.parametrize(
    ("what", "name"),
    [(Executions, "_release"), (Secrets, "hiding"), (telling, "rows_for"), (Kin, "over")],
)
async def test_one_of_which_a_step_to_its_end_fails_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: object, name: str
):
    async with bench(tmp_path) as node:
        with monkeypatch.context() as patch:
            patch.setattr(what, name, fails)
            patch.setattr(Work, "kin", Kin(None, None, 0, fails))  # type: ignore[arg-type]
            execution = await spoilt(node, 10)
        assert execution.durability == "power"
        assert bool(node.rows.scan(b"webhook/")) is (name != "rows_for")
        if name != "_release":
            assert (await node.services.stats())["admission"]["running"] == 0
        services = await node.crash()
        assert (await services.execution(execution.id)).error == execution.error


Put = list[tuple[bytes, bytes]]


def with_a_row_that_is_refused(execution: Execution) -> tuple[int, Put]:
    size, found = ROWS_OF_END(execution)
    return size, [*found, (b"", b"no key")]


ROWS_OF_END = rows.rows_of_end


async def test_of_an_end_whose_rows_are_refused_half_way_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else its record would say that it is well, and memory that it has failed."""
    async with bench(tmp_path) as node:
        node.said.failure = lambda event, error, **_: None  # type: ignore[method-assign]
        services = await node.ready()
        running = asyncio.ensure_future(services.invoke("work", LARGE))
        run = await node.run()
        with monkeypatch.context() as patch:
            patch.setattr(rows, "rows_of_end", with_a_row_that_is_refused)
            answer(run)
            execution = await running
            assert (execution.status, execution.durability) == ("failed", "volatile")
            await services._parts.journal.kept()
        for prefix in (b"exec", b"result/"):
            assert not node.rows.scan(prefix)
        services = await node.crash()
        assert (await services.execution(execution.id)).cause == "lost"  # it had begun


async def test_of_an_end_without_its_output_no_row_names_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        node.said.failure = lambda event, error, **_: None  # type: ignore[method-assign]
        services = await node.ready(webhook="http://127.0.0.1:1/hook")
        running = asyncio.ensure_future(services.invoke("work", LARGE))
        run = await node.run()
        with monkeypatch.context() as patch:
            patch.setattr(telling, "rows_for", lambda *_: [(b"", b"no key")])
            answer(run)
            execution = await running
        assert (execution.status, execution.durability) == ("failed", "crash")
        assert not node.rows.scan(b"result/")
        await services.collect_garbage()
        assert not list((tmp_path / "results").rglob("??*/*"))


class Warm:
    """An instance whose calls the test plays."""

    closed = False

    def __init__(self, begin: Callable[[], StubRun]) -> None:
        self._begin = begin

    def function(self, name: str) -> Warm:
        return self

    def start(self, *_: object, **__: object) -> StubRun:
        return self._begin()

    def close(self) -> None:
        self.closed = True


async def test_one_whose_end_is_not_understood_keeps_no_warm_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path) as node:
        node.said.failure = lambda event, error, **_: None  # type: ignore[method-assign]
        services = await node.ready(pool=Pool(isolation="shared", max=1))
        made: list[Warm] = []

        def warm(program: StubProgram, run: RunInvocation) -> Warm:
            made.append(Warm(partial(node.runtime.start, program, run)))
            return made[-1]

        monkeypatch.setattr(node.runtime, "warm", warm)
        running = asyncio.ensure_future(services.invoke("work"))
        run = await node.run()
        with monkeypatch.context() as patch:
            patch.setattr(Follower, "pump", fails)
            run.finish()
            assert (await running).cause == "internal"
        assert made[0].closed
        running = asyncio.ensure_future(services.invoke("work"))
        (await node.run(1)).finish()
        assert (await running).completed
        assert not made[1].closed


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (WebhookSender, "added"), (Follower, "finish"), (Tallies, "add"), (Events, "changed"),
        (Inputs, "let_go"),
    ],
)  # fmt: skip
async def test_whoever_waits_is_told_though_what_follows_an_end_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: type, name: str
):
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: raised.append(context["exception"])
    )
    async with bench(tmp_path) as node:
        services = await node.ready(webhook="http://127.0.0.1:1/hook")
        running = asyncio.ensure_future(services.invoke("work", b"held until the end"))
        run = await node.run()
        following = asyncio.ensure_future(followed(services, run.invocation.execution_id))
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(what, name, fails)
            answer(run)
            async with asyncio.timeout(HANG_S):
                execution = await running
        assert execution.completed
        assert [str(error) for error in raised] == ["planted"]
        assert (await services.stats())["executions"]["live"] == 0
        if what is Follower:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        else:
            async with asyncio.timeout(HANG_S):
                assert not await following


async def followed(services: NodeServices, id: str) -> list[LogLine]:
    return [line async for lines in services.logs(id, follow=True) for line in lines]


async def test_one_that_is_over_at_once_and_cannot_be_written_down_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with bench(tmp_path, answer) as node:
        node.said.failure = lambda event, error, **_: None  # type: ignore[method-assign]
        services = await node.ready()
        node.trust()
        with monkeypatch.context() as patch:
            patch.setattr(rows, "rows_of_end", fails)
            async with asyncio.timeout(HANG_S):
                execution = await services.invoke("work")
        assert (execution.status, execution.durability) == ("failed", "volatile")

"""A node dies at any write, by SIGKILL or power cut: what it had answered holds afterwards.

Rule: the judge knows only what callers and guests saw. Planted mistakes show that it would see
them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from node_runs import Bench, Died, Life, bench

from spear.errors import SpearError
from spear.records.execution import Execution, Invocation
from spear.spearlet.node.executions import Executions

SEEDS = 60
STEPS = 40


class Seen:
    """What callers and guests saw of each execution."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()  # answered as class power
        self.ended: dict[str, Execution] = {}  # told, with its durability
        self.ran: dict[str, int] = {}  # guests that were started
        self.keys: dict[str, str] = {}  # idempotency key -> the execution it was answered with

    def end(self, execution: Execution) -> None:
        assert execution.ended
        before = self.ended.setdefault(execution.id, execution)
        assert before.status == execution.status, "two ends of one execution"

    def key(self, key: str, id: str) -> None:
        assert self.keys.setdefault(key, id) == id, "two executions of one key"


async def submit(node: Bench, seen: Seen, number: int, key: str) -> None:
    try:
        found = await node.services.submit("work", b"%d" % number, Invocation(idempotency_key=key))
    except SpearError:
        return
    seen.accepted.add(found.id)
    if key:
        seen.key(key, found.id)
    try:
        seen.end(await node.services.wait(found.id))
    except SpearError:
        return


async def invoke(node: Bench, seen: Seen, number: int) -> None:
    try:
        seen.end(await node.services.invoke("work", b"%d" % number))
    except SpearError:
        return


async def act(node: Bench, seen: Seen, draw: random.Random, tasks: set[asyncio.Task[None]]) -> None:
    """One step of a caller or a guest."""
    choice = draw.randrange(6)
    if choice < 2:
        key = f"key {draw.randrange(6)}" if draw.random() < 0.5 else ""
        tasks.add(asyncio.ensure_future(submit(node, seen, draw.randrange(1000), key)))
    elif choice == 2:
        tasks.add(asyncio.ensure_future(invoke(node, seen, draw.randrange(1000))))
    elif choice == 3 and (works := node.services._executions.works()):
        node.services._executions.cancel(draw.choice(works), "enough")
    else:
        finish_one(node, draw)
    for _ in range(draw.randrange(4)):
        await asyncio.sleep(0)
    count_runs(node, seen)


def finish_one(node: Bench, draw: random.Random) -> None:
    live = [run for run in node.runtime.runs if not run.done]
    if live:
        run = draw.choice(live)
        run.write(run.invocation.stdin)
        run.finish(*draw.choice([(), ("failed", "trap")]))


_counted = "counted"


def count_runs(node: Bench, seen: Seen) -> None:
    for run in node.runtime.runs:
        if not hasattr(run, _counted):
            setattr(run, _counted, True)
            id = run.invocation.execution_id
            seen.ran[id] = seen.ran.get(id, 0) + 1


async def settle(node: Bench, seen: Seen) -> None:
    """Every guest ends, so every execution does."""
    async with asyncio.timeout(30):
        while node.services._executions.works():
            count_runs(node, seen)
            for run in node.runtime.runs:
                if not run.done:
                    run.finish()
            await asyncio.sleep(0)
    count_runs(node, seen)


async def judge(node: Bench, seen: Seen, *, power: bool) -> None:
    for id in seen.accepted:
        found = await node.services.execution(id)  # NotFound: an acceptance was lost
        assert found.ended
        assert found.status in {"completed", "failed", "terminated"}
    for id, told in seen.ended.items():
        if told.durability == "power" or (told.durability == "crash" and not power):
            found = await node.services.execution(id, include_output=True)
            assert (found.status, found.output) == (told.status, told.output), "an end was changed"
    assert all(count == 1 for count in seen.ran.values()), "an execution ran twice"
    listed = {e.id for e in (await node.services.executions(limit=10_000)).executions}
    assert seen.accepted <= listed
    assert node.services._history.count == len(listed)
    assert not node.store.scan(b"live/")


async def life(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_only_died)
    seen, tasks = Seen(), set[asyncio.Task[None]]()
    async with bench(folder) as node:
        await node.ready(concurrency=draw.choice([1, 2, 0]))
        power = draw.random() < 0.5
        for _ in range(draw.randrange(1, 4)):
            node.store.dies_after = node.store.writes + draw.randrange(1, 30)
            for _ in range(STEPS):
                await act(node, seen, draw, tasks)
                if node.store.dead:
                    break
            count_runs(node, seen)
            await node.crash(power=power)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            tasks.clear()
        await settle(node, seen)
        await judge(node, seen, power=power)


def _only_died(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    assert isinstance(error, Died), context


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_what_was_answered_holds(tmp_path: Path, seed: int):
    await life(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("batch", range(50))
async def test_what_was_answered_holds_for_many_seeds(tmp_path: Path, batch: int):
    for seed in range(1000 + batch * 100, 1000 + (batch + 1) * 100):
        await life(tmp_path / str(seed), seed)


def _answer_before_the_flush(patch: pytest.MonkeyPatch) -> None:
    def told(self: Life, sequence: int, call: Callable[[None], None]) -> None:
        asyncio.get_running_loop().call_soon(call, None)

    patch.setattr(Life, "when_synced", told)


def _begin_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    def promote(self: Executions, work: object) -> None:
        work.stop_timer()  # type: ignore[attr-defined]
        self._begin(work)  # type: ignore[arg-type]
        work.execution.status = "running"  # type: ignore[attr-defined]

    patch.setattr(Executions, "_promote", promote)


def _forget_to_keep_the_end(patch: pytest.MonkeyPatch) -> None:
    from spear.spearlet.node.ends import Ends

    patch.setattr(Ends, "_put", lambda self, kept, more: None)


def _run_the_unknown_again(patch: pytest.MonkeyPatch) -> None:
    def again(self: Executions, work: object) -> None:
        work.execution.status = "pending"  # type: ignore[attr-defined]
        self.readmit(work)  # type: ignore[arg-type]

    patch.setattr(Executions, "settle_unknown", again)


@pytest.mark.parametrize(
    "plant",
    [
        _answer_before_the_flush,
        _begin_before_it_is_written,
        _forget_to_keep_the_end,
        _run_the_unknown_again,
    ],
)
async def test_the_judge_sees_planted_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: object
):
    plant(monkeypatch)  # type: ignore[operator]
    for seed in range(200):
        try:
            await life(tmp_path / str(seed), seed)
        except (AssertionError, SpearError):
            return
    pytest.fail("no seed of 200 saw the planted mistake")

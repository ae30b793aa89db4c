"""A node dies at any write, by SIGKILL or power cut: what it had answered holds afterwards.

Rule: the judge knows only what callers and guests saw. Planted mistakes show that it would see
them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from node_runs import INSTANT, Bench, Died, Life, answer, bench

from spear.errors import SpearError
from spear.records.execution import Execution, Invocation
from spear.records.task import Retry, TaskSpec
from spear.runtime.stub import StubRun
from spear.spearlet.node import family, rows
from spear.spearlet.node.executions import Executions
from spear.spearlet.node.work import ENDING, Work

SEEDS = 60
STEPS = 40
ATTEMPTS = 3
TASKS = ["work", "agent", "tried"]
AGENT = b"stub posts: a guest that calls others"


class Called(NamedTuple):
    """By which execution, and in which life of the node."""

    parent: str
    root: str
    life: int
    attempt: int  # of the parent, from 1
    detached: bool


class Seen:
    """What callers and guests saw of each execution."""

    def __init__(self) -> None:
        self.life = 0
        self.called: dict[str, Called] = {}  # by agents
        self.faults: list[str] = []  # of the node's loop
        self.accepted: set[str] = set()  # answered as class power
        self.ended: dict[str, Execution] = {}  # told, with its durability
        self.ran: dict[str, int] = {}  # guests that were started
        self.keys: dict[str, str] = {}  # idempotency key -> the execution it was answered with

    def end(self, execution: Execution) -> None:
        assert execution.ended
        before = self.ended.setdefault(execution.id, execution)
        assert before.status == execution.status, "two ends of one execution"

    def runs(self, id: str) -> None:
        """A guest was started."""
        self.ran[id] = self.ran.get(id, 0) + 1
        called = self.called.get(id)
        if called is not None and not called.detached:
            assert called.life == self.life, "a call went on after its caller's death"
            assert not self.over(called), "a call began after its caller's end"

    def over(self, called: Called) -> bool:
        """Whether the attempt that called it is."""
        return called.parent in self.ended or self.ran[called.parent] > called.attempt

    def key(self, key: str, id: str) -> None:
        assert self.keys.setdefault(key, id) == id, "two executions of one key"


async def submit(node: Bench, seen: Seen, task: str, number: int, key: str) -> None:
    try:
        found = await node.services.submit(task, b"%d" % number, Invocation(idempotency_key=key))
    except SpearError:
        return
    seen.accepted.add(found.id)
    if key:
        seen.key(key, found.id)
    try:
        seen.end(await node.services.wait(found.id))
    except SpearError:
        return


async def invoke(node: Bench, seen: Seen, task: str, number: int) -> None:
    try:
        seen.end(await node.services.invoke(task, b"%d" % number))
    except SpearError:
        return


def call(node: Bench, seen: Seen, draw: random.Random, tasks: set[asyncio.Task[None]]) -> None:
    """An agent calls a task."""
    agents = [run for run in node.runtime.runs if not run.done and run.invocation.context]
    if not agents:
        return
    agent, detached = draw.choice(agents).invocation.context, draw.random() < 0.4
    kin = node.node._executions._starter.family  # type: ignore[union-attr]
    task, input = draw.choice(TASKS), b"%d" % draw.randrange(1000)
    try:
        made = kin.invoke(agent, task, Invocation(), input, detached=detached)
    except SpearError:
        return
    count_runs(node, seen)
    attempt = seen.ran[agent.execution_id]
    seen.called[made.id] = Called(agent.execution_id, agent.root_id, seen.life, attempt, detached)
    tasks.add(asyncio.ensure_future(follow(seen, made)))


async def follow(seen: Seen, made: family.Call) -> None:
    try:
        if made.accepted is not None:
            await made.accepted
        if seen.called[made.id].detached:
            seen.accepted.add(made.id)
        seen.end(await made.ended)
    except SpearError:
        return


def check_calls(node: Bench, seen: Seen) -> None:
    """Nothing outlives its caller."""
    for run in node.runtime.runs:
        called = seen.called.get(run.invocation.execution_id)
        if called is not None and not called.detached and seen.over(called):
            assert run.done, "a call went on after its caller's end"


async def act(node: Bench, seen: Seen, draw: random.Random, tasks: set[asyncio.Task[None]]) -> None:
    """One step of a caller or a guest."""
    choice, task = draw.randrange(9), draw.choice(TASKS)
    if choice < 2:
        key = f"{task} {draw.randrange(6)}" if draw.random() < 0.5 else ""
        tasks.add(asyncio.ensure_future(submit(node, seen, task, draw.randrange(1000), key)))
    elif choice == 2:
        tasks.add(asyncio.ensure_future(invoke(node, seen, task, draw.randrange(1000))))
    elif choice > 5:
        call(node, seen, draw, tasks)
    elif choice == 3 and (works := node.services._executions.works()):
        node.services._executions.cancel(draw.choice(works), "enough")
    else:
        finish_one(node, draw)
    for _ in range(draw.randrange(4)):
        await asyncio.sleep(0)
        count_runs(node, seen)
        check_calls(node, seen)
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
            seen.runs(run.invocation.execution_id)


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
    found = (await node.services.executions(limit=10_000)).executions
    # What is of class crash may have been tried again, and a power cut took that.
    attempts = {one.id: one.attempt for one in found if one.mode == "async" or not power}
    for id, count in seen.ran.items():
        assert count <= attempts.get(id, ATTEMPTS), "an execution ran twice"
    listed = {e.id for e in found}
    assert seen.accepted <= listed
    assert node.services._history.count == len(listed)
    assert not node.store.scan(b"live/")
    await judge_calls(node, seen, listed)
    assert not seen.faults


async def judge_calls(node: Bench, seen: Seen, listed: set[str]) -> None:
    """Each that is known has ended, and is found below its root."""
    trees: dict[str, set[str]] = {}
    for id, called in seen.called.items():
        if id not in listed:
            continue
        found = await node.services.execution(id)
        assert found.ended
        assert (found.parent_id, found.root_id) == (called.parent, called.root)
        assert found.detached == called.detached
        trees.setdefault(called.root, set()).add(id)
    for root, below in trees.items():
        page = await node.services.executions(root=root, limit=10_000)
        assert {one.id for one in page.executions} == below


async def life(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    seen, tasks = Seen(), set[asyncio.Task[None]]()
    loop.set_exception_handler(lambda loop, context: _only_died(seen, context))
    quick = draw.random() < 0.5

    def guest(run: StubRun) -> None:
        if quick and run.invocation.context is None and draw.random() < 0.5:
            answer(run)

    async with bench(folder, guest) as node:
        services = await node.ready(concurrency=draw.choice([1, 2, 0]))
        artifact = await services.put_artifact(AGENT)
        allowed = {"tasks.allowed": "*"}
        for name, attempts in (("agent", 1), ("tried", ATTEMPTS)):
            retry = Retry(attempts=attempts, on=("TRAP", "OUTCOME_UNKNOWN"), backoff_ns=INSTANT)
            await services.register(
                TaskSpec(name=name, artifact=artifact.digest, config=allowed, retry=retry)
            )
        power = draw.random() < 0.5
        for _ in range(draw.randrange(1, 4)):
            if quick:
                node.trust()
            node.store.dies_after = node.store.writes + draw.randrange(1, 30)
            for _ in range(STEPS):
                await act(node, seen, draw, tasks)
                if node.store.dead:
                    break
            count_runs(node, seen)
            seen.life += 1
            await node.crash(power=power)
            for task in tasks:
                task.cancel()
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                assert not isinstance(end, AssertionError), end
            tasks.clear()
        await settle(node, seen)
        await judge(node, seen, power=power)


def _only_died(seen: Seen, context: dict[str, object]) -> None:
    if not isinstance(context.get("exception"), Died):
        seen.faults.append(str(context))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_what_was_answered_holds(tmp_path: Path, seed: int):
    await life(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("batch", range(50))
async def test_what_was_answered_holds_for_many_seeds(tmp_path: Path, batch: int):
    for seed in range(1000 + batch * 100, 1000 + (batch + 1) * 100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        await life(folder, seed)


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

    patch.setattr(Ends, "put", lambda self, kept, more: 0)


def _run_the_unknown_again(patch: pytest.MonkeyPatch) -> None:
    def again(self: Executions, work: object) -> None:
        work.execution.status = "pending"  # type: ignore[attr-defined]
        self.readmit(work)  # type: ignore[arg-type]

    patch.setattr(Executions, "settle_unknown", again)


def _leave_the_children_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(family.Kin, "over", family.Kin.count)


def _leave_the_children_to_the_next_attempt(patch: pytest.MonkeyPatch) -> None:
    real = family.Kin.over

    def over(self: family.Kin) -> None:
        (real if self.work.stage == ENDING else family.Kin.count)(self)

    patch.setattr(family.Kin, "over", over)


def _take_up_what_was_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Work, "bound", False)


def _answer_a_detached_call_at_once(patch: pytest.MonkeyPatch) -> None:
    real = family.Family._adopt

    def adopt(self: family.Family, child: Work, kin: family.Kin, detached: bool) -> None:
        real(self, child, kin, detached)
        child.accepted = None

    patch.setattr(family.Family, "_adopt", adopt)


def _leave_the_tree_out(patch: pytest.MonkeyPatch) -> None:
    real = rows.rows_of_end

    def without(execution: Execution) -> tuple[int, list[tuple[bytes, bytes]]]:
        size, found = real(execution)
        return size, [row for row in found if not row[0].startswith(b"tree/")]

    patch.setattr(rows, "rows_of_end", without)


def _tell_what_is_over_at_once_unkept(patch: pytest.MonkeyPatch) -> None:
    def take(self: Executions, work: Work, run: StubRun) -> None:
        self._works[work.execution.id] = work
        work.execution.durability = "crash"
        asyncio.get_running_loop().call_soon(self._telling.kept, work, [])

    patch.setattr(Executions, "take_ended", take)


def _go_on_unwritten(patch: pytest.MonkeyPatch) -> None:
    """A guest that is not over at once."""

    def take(self: Executions, work: Work, run: StubRun) -> None:
        self._take(work)
        self._offer(work)
        self._runs(work, run)

    patch.setattr(Executions, "take_begun", take)


@pytest.mark.parametrize(
    "plant",
    [
        _leave_the_children_alone,
        _leave_the_children_to_the_next_attempt,
        _take_up_what_was_bound,
        _answer_a_detached_call_at_once,
        _leave_the_tree_out,
        _tell_what_is_over_at_once_unkept,
        _go_on_unwritten,
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

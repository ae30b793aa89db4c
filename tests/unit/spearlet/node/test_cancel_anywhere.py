"""A cancel at each turn of the loop, from the acceptance of an execution to its end.

Rule: it waits for another, is loaded, fails once, rests and is tried again, a few turns each, so
the turns go through every stage; wherever the cancel comes, it ends once and nothing is left of it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path

import pytest
from node_runs import HANG_S, INSTANT, Bench, bench, until

from spear.records.execution import Execution
from spear.records.task import Retry
from spear.runtime.interface import Program
from spear.runtime.stub import StubRun
from spear.spearlet.node.programs import Programs
from spear.spearlet.node.work import ENDING, LOADING, QUEUED, RESTING, RUNS, WRITING

STAGES = {WRITING, QUEUED, LOADING, RUNS, RESTING, ENDING}
SLOW_TURNS = 3


async def some_turns(count: int = SLOW_TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class FailsOnce:
    """A guest whose first attempt traps and whose next completes, each after some turns."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, run: StubRun) -> None:
        self.attempts[run.invocation.execution_id] += 1
        task = asyncio.ensure_future(self._run(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, run: StubRun) -> None:
        await some_turns()
        again = self.attempts[run.invocation.execution_id] > 1
        run.finish(*(("completed", "exit") if again else ("failed", "trap")))


def make_programs_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes some turns to load from now on, as if it had been dropped from memory."""
    ready = Programs.ready

    async def load(self: Programs, digest: str, metered: bool) -> Program:
        await some_turns()
        found = ready(self, digest, metered)
        assert found is not None
        return found

    monkeypatch.setattr(Programs, "ready", lambda *given: None)
    monkeypatch.setattr(Programs, "load", load)


async def cancelled_at(node: Bench, turns: int) -> tuple[str, str]:
    """The stage in which it was, and how it ended."""
    services = node.services
    ahead = await services.submit("work")
    waiting = asyncio.ensure_future(services.submit("work"))
    await asyncio.sleep(0)
    (work,) = (one for one in services._executions.works() if one.execution.id != ahead.id)
    ends: list[Execution] = []
    watch = asyncio.ensure_future(hear(node, ends))
    await some_turns(turns)
    stage = work.stage if services._executions.find(work.execution.id) else "ended"
    services._executions.cancel(work, "enough")
    await waiting
    found = await services.wait(work.execution.id)
    await services.wait(ahead.id)
    await until(lambda: found.id in (end.id for end in ends))
    await some_turns()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert Counter(end.id for end in ends) == {ahead.id: 1, found.id: 1}
    row = await services.execution(work.execution.id)
    assert row.status == found.status
    if found.status == "terminated":
        assert found.error is not None
        assert found.error.message.endswith("enough")
    return stage, found.status


async def hear(node: Bench, ends: list[Execution]) -> None:
    async for change in node.services.watch():
        ends += [change] if change.ended else []


async def test_a_cancel_at_any_turn_ends_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    retry = Retry(attempts=2, backoff_ns=INSTANT, on=("TRAP",))
    found: dict[str, set[str]] = {}
    async with bench(tmp_path, FailsOnce()) as node, asyncio.timeout(HANG_S):
        services = await node.ready(concurrency=1, retry=retry)
        make_programs_slow(monkeypatch)
        for turns in itertools.count():
            stage, status = await cancelled_at(node, turns)
            found.setdefault(stage, set()).add(status)
            stats = await services.stats()
            assert stats["executions"]["live"] == stats["admission"]["running"] == 0
            if stage == "ended":
                break
    assert found.pop("ended") == {"completed"}
    assert set(found) == STAGES, found
    late = {stage for stage, how in found.items() if how != {"terminated"}}
    assert late <= {RUNS, ENDING}, "its guest had returned"

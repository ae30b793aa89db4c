"""The log store against lists: any order of lines, rotations, followers, ends, crashes, sweeps."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from log_runs import Bench, line
from manual_clock import ManualClock

from spear.records.execution import LogLine
from spear.spearlet.logs import store as store_module
from spear.spearlet.logs.sink import Sink
from spear.spearlet.logs.store import LogStore

EXECUTIONS = st.sampled_from(["a1", "a2", "a3", "b1"])
HOUR = 3600 * 10**9


def task_of(execution_id: str) -> str:
    return "task-" + execution_id[0]


class Follower:
    """One who follows, in haste or batch by batch, and what was seen."""

    def __init__(self, lines: AsyncIterator[list[LogLine]], after_seq: int) -> None:
        self.lines, self.after_seq = lines, after_seq
        self.seen: list[LogLine] = []
        self.pending: asyncio.Future[list[LogLine]] | None = None
        self.ended = False

    async def step(self, turns: int = 5) -> bool:
        """Takes one batch, where one comes within so many turns of the loop."""
        if self.ended:
            return False
        if self.pending is None:
            self.pending = asyncio.ensure_future(anext(self.lines))  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        if not self.pending.done():
            return False
        pending, self.pending = self.pending, None
        try:
            self.seen += pending.result()
        except StopAsyncIteration:
            self.ended = True
        return not self.ended

    async def all_there_is(self) -> None:
        while await self.step():
            pass

    async def leave(self) -> None:
        if self.pending is not None:
            self.pending.cancel()
            await asyncio.gather(self.pending, return_exceptions=True)
        await self.lines.aclose()  # type: ignore[attr-defined]


class LogsMachine(RuleBasedStateMachine):
    """Files of 4 KiB; their number decides whether lines are ever removed for want of room."""

    files = 1000
    lossless = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spear-logs-"))
        self.clock = ManualClock()
        self.bench = Bench(self.folder, self.clock)
        self.runner = asyncio.Runner()
        self.store = self.new_store()
        self.lines: dict[str, list[str]] = {}  # every line of an execution
        self.sinks: dict[str, Sink] = {}
        self.counts: dict[str, int] = {}  # lines of the attempt
        self.followers: list[tuple[str, Follower]] = []

    def new_store(self) -> LogStore:
        return self.bench.store(task_bytes_max=1, age_ns_max=0, files=self.files)

    def sink(self, name: str) -> Sink:
        if name not in self.sinks:
            known = name in self.lines
            if known and not self.lossless and not list(self.store.read(name, task_of(name))):
                self.lines[name] = []  # all of them were removed: it begins anew
            self.sinks[name] = self.store.sink(name, task_of(name), "i", resumed=known)
            self.counts[name] = 0
            self.lines.setdefault(name, [])
        return self.sinks[name]

    @rule(name=EXECUTIONS, count=st.integers(1, 30), size=st.sampled_from([1, 40, 700]))
    def append(self, name: str, count: int, size: int) -> None:
        sink, first = self.sink(name), self.counts[name] + 1
        fresh = [line(seq, f"{name} {seq} " + "x" * size) for seq in range(first, first + count)]
        sink.append(fresh)
        self.counts[name] += count
        self.lines[name] += [one.message for one in fresh]

    @rule(name=EXECUTIONS)
    def say(self, name: str) -> None:
        self.sink(name).system("said")
        self.lines[name].append("said")

    @rule(name=EXECUTIONS)
    def next_attempt(self, name: str) -> None:
        self.sink(name)
        self.sinks[name] = self.store.sink(name, task_of(name), "next")
        self.counts[name] = 0

    @rule(name=EXECUTIONS)
    def finish(self, name: str) -> None:
        if name in self.sinks:
            self.sinks.pop(name).finish()
            self.runner.run(self.followers_end(name))

    async def followers_end(self, name: str) -> None:
        for execution_id, follower in self.followers:
            if execution_id == name:
                await follower.all_there_is()
                assert follower.ended
                self.check(name, follower.seen, follower.after_seq)
        self.followers = [pair for pair in self.followers if not pair[1].ended]

    @rule(name=EXECUTIONS)
    def remove(self, name: str) -> None:
        if name in self.lines and name not in self.sinks:
            self.store.remove(name, task_of(name))
            del self.lines[name]
            assert list(self.store.read(name, task_of(name))) == []

    @rule(name=EXECUTIONS, share=st.floats(0, 1))
    def follow(self, name: str, share: float) -> None:
        if name in self.sinks:
            after_seq = int(len(self.lines[name]) * share)
            follower = Follower(self.store.follow(name, task_of(name), after_seq), after_seq)
            self.followers.append((name, follower))

    @rule(data=st.data(), turns=st.integers(0, 4))
    def a_follower_goes_on(self, data: st.DataObject, turns: int) -> None:
        if self.followers:
            _, follower = data.draw(st.sampled_from(self.followers))
            self.runner.run(follower.step(turns))

    @rule()
    def all_followers_see_what_there_is(self) -> None:
        for name, follower in self.followers:
            self.runner.run(follower.all_there_is())
            self.check(name, follower.seen, follower.after_seq)

    @rule(data=st.data())
    def a_follower_leaves(self, data: st.DataObject) -> None:
        if self.followers:
            pair = data.draw(st.sampled_from(self.followers))
            self.followers.remove(pair)
            self.runner.run(pair[1].leave())

    @rule(name=EXECUTIONS, share=st.floats(0, 1))
    def read(self, name: str, share: float) -> None:
        known = self.lines.get(name, [])
        after_seq = int(len(known) * share)
        batches = list(self.store.read(name, task_of(name), after_seq))
        assert all(batches)
        self.check(name, [one for batch in batches for one in batch], after_seq)

    @rule(crash=st.booleans(), torn=st.sampled_from([b"", b"{", b'{"execution_id":"a1","seq":9']))
    def open_anew(self, crash: bool, torn: bytes) -> None:
        self.runner.run(self.everybody_leaves())
        if not crash:
            self.store.close()
        elif torn:
            for path in self.folder.glob("*/log.jsonl"):
                with path.open("ab") as file:
                    file.write(torn)
        self.store = self.new_store()
        self.sinks.clear()

    @rule()
    def lose_the_indexes(self) -> None:
        for path in self.folder.glob("*/*.index"):
            path.unlink()

    @rule()
    def sweep(self) -> None:
        self.clock.advance(HOUR)
        self.runner.run(self.store.sweep())

    async def everybody_leaves(self) -> None:
        for _, follower in self.followers:
            await follower.leave()
        self.followers.clear()

    def check(self, name: str, seen: list[LogLine], after_seq: int, *, end: bool = True) -> None:
        """What was seen is what was logged, each line once and in order; marks stand for what the
        limits removed."""
        known = self.lines[name] if seen else self.lines.get(name, [])
        at = after_seq
        for one in seen:
            assert one.execution_id == name
            if "gone: removed for" in one.message:
                assert not self.lossless
                assert at < one.seq
            else:
                assert one.seq == at + 1
                assert one.message == known[one.seq - 1]
            at = one.seq
        if end and (self.lossless or name in self.sinks):
            assert at == len(known)

    @invariant()
    def nobody_has_seen_a_line_twice_or_out_of_order(self) -> None:
        for name, follower in self.followers:
            self.check(name, follower.seen, follower.after_seq, end=False)

    @invariant()
    def the_files_stay_within_the_limits(self) -> None:
        for folder in self.folder.iterdir():
            sizes = [path.stat().st_size for path in folder.glob("*.jsonl")]
            assert len(sizes) <= self.files
            assert all(size <= 30 * 1000 for size in sizes)  # one batch

    def teardown(self) -> None:
        self.runner.run(self.everybody_leaves())
        self.store.close()
        self.runner.close()
        shutil.rmtree(self.folder)


class ShortLogsMachine(LogsMachine):
    files = 3
    lossless = False


MACHINES = pytest.mark.parametrize("machine", [LogsMachine, ShortLogsMachine])


def run(machine: type[LogsMachine], examples: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "OPEN_MAX", 1)
        options = settings(max_examples=examples, stateful_step_count=40, deadline=None)
        run_state_machine_as_test(machine, settings=options)


@MACHINES
def test_any_order_of_events_shows_each_line_once(machine: type[LogsMachine]) -> None:
    run(machine, 30)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@MACHINES
def test_any_order_of_events_for_long(machine: type[LogsMachine]) -> None:
    run(machine, 3000)

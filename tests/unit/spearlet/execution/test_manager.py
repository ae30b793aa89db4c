"""From admission to one terminal state, over a runtime that does what the test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import make_config
from manual_clock import ManualClock

from spear.clock import Ids
from spear.errors import ModuleInvalid, NodeBusy, NodeClosed, NotFound
from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubRun, StubRuntime
from spear.runtime.waiting import drive
from spear.spearlet.execution.artifact import Artifact, digest_of
from spear.spearlet.execution.live import Live
from spear.spearlet.execution.manager import Manager

WASM = b"stub guest"


class Bench:
    """A manager over a stub; `guest` plays the guests."""

    def __init__(
        self, folder: Path, guest: Callable[[StubRun], object] | None = None,
        guests_max: int = 1000, **settings: object,
    ) -> None:  # fmt: skip
        self.clock = ManualClock()
        self.runtime = StubRuntime(guest, guests_max=guests_max)
        config = make_config(folder, **settings)
        self.manager = Manager(self.runtime, self.clock, Ids(self.clock), config)
        self.artifact = Artifact(digest_of(WASM), WASM, self.runtime.load(WASM))

    def start(self) -> Live:
        return self.manager.start(self.artifact, "task", invocation())

    @property
    def run(self) -> StubRun:
        return self.runtime.runs[-1]


def invocation(**fields: Any) -> Invocation:
    known = {"timeout_ns": 1, "memory_bytes_max": 1, "output_bytes_max": 1, "log_bytes_max": 1}
    return Invocation(**known | fields)


def finish(run: StubRun) -> None:
    run.write(b"out")
    run.finish()


def test_a_module_is_loaded_once_while_it_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = drive(bench.manager.load(WASM))
    loads = bench.runtime.loads
    assert drive(bench.manager.load(WASM)) is first
    assert bench.runtime.loads == loads


def test_a_bad_module_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(ModuleInvalid):
        drive(bench.manager.load(b"neither"))
    assert bench.manager.stats()["artifacts"]["count"] == 0


def test_an_execution_runs_and_completes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, finish)
    live = bench.start()
    execution = drive(bench.manager.wait(live))
    assert execution.status == "completed"
    assert execution.output == b"out"
    assert execution.artifact == bench.artifact.digest
    assert execution.created_ns == bench.clock.now_ns()
    assert bench.manager.get(execution.id) is execution


def test_the_time_of_what_a_guest_asks_begins_with_the_guest(tmp_path: Path) -> None:
    """However long the start takes: else a request would end before its guest does."""
    bench = Bench(tmp_path, lambda _: bench.clock.advance(10**9))
    posts = b"stub posts"
    artifact = Artifact(digest_of(posts), posts, bench.runtime.load(posts))
    bench.manager.start(artifact, "task", invocation(timeout_ns=5))
    assert bench.run.invocation.context.deadline_ns == bench.clock.monotonic_ns() + 5


def test_a_started_execution_is_running_until_it_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    assert bench.manager.get(live.execution.id).status == "running"
    bench.run.finish()
    assert bench.manager.get(live.execution.id).status == "completed"


def test_an_end_that_nobody_awaits_is_seen_by_whoever_looks(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.start()
    bench.run.finish("timeout", "deadline")
    assert [execution.status for execution in bench.manager.newest(None, 9, None)] == ["timeout"]
    assert bench.manager.stats()["executions"]["timeout"] == 1


def test_what_is_refused_leaves_no_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, guests_max=1)
    bench.start()
    with pytest.raises(NodeBusy):
        bench.start()
    assert bench.manager.stats()["executions"]["total"] == 1


def test_cancel_ends_an_execution_and_says_the_same_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    id = bench.start().execution.id
    first = drive(bench.manager.cancel(id, "enough"))
    assert first.status == "terminated"
    assert drive(bench.manager.cancel(id, "again")) is first
    assert first.error is not None
    assert first.error.message == "enough"


def test_an_ended_execution_is_not_changed_by_cancel(tmp_path: Path) -> None:
    bench = Bench(tmp_path, finish)
    live = bench.start()
    assert drive(bench.manager.cancel(live.execution.id)).status == "completed"


def test_what_is_not_known_is_not_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(NotFound, match="no execution 'x'"):
        bench.manager.get("x")
    with pytest.raises(NotFound):
        drive(bench.manager.cancel("x"))


def test_the_newest_come_first_in_pages(tmp_path: Path) -> None:
    bench = Bench(tmp_path, finish)
    made = [bench.start().execution.id for _ in range(5)]
    first = [e.id for e in bench.manager.newest(None, 3, None)]
    rest = [e.id for e in bench.manager.newest(None, 3, first[-1])]
    assert first + rest == made[::-1]
    assert bench.manager.newest("failed", 9, None) == []


def test_history_forgets_by_age_and_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path, finish, history__count=2, history__retention="1h")
    for _ in range(3):
        drive(bench.manager.wait(bench.start()))
    assert len(bench.manager.newest(None, 9, None)) == 2
    bench.clock.advance(10**18)
    assert bench.manager.newest(None, 9, None) == []


def test_ended_executions_do_not_pile_up_unseen(tmp_path: Path) -> None:
    bench = Bench(tmp_path, finish, history__count=10)
    for _ in range(1000):
        bench.start()
    assert len(bench.manager._live) <= 64


def test_statistics_add_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for status, cause in (("completed", "exit"), ("failed", "trap")):
        bench.start()
        bench.run.finish(status, cause, duration_ns=100)
    bench.start()
    assert bench.manager.stats()["executions"] == {
        "total": 3, "live": 1, "completed": 1, "failed": 1, "terminated": 0, "timeout": 0,
        "duration_ns_mean": 100,
    }  # fmt: skip


def test_a_closed_manager_ends_what_runs_and_takes_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    bench.manager.close(0)
    bench.manager.close(0)
    assert live.execution.status == "terminated"
    with pytest.raises(NodeClosed):
        bench.start()


def test_a_close_names_itself_as_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    bench.manager.close(0)
    assert live.execution.error is not None
    assert live.execution.error.message == "the node was closed"


def test_a_close_leaves_its_grace_to_what_runs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    timer = threading.Timer(0.02, bench.run.finish)
    timer.start()
    bench.manager.close(60)
    timer.join()
    assert live.execution.status == "completed"


def test_one_that_begins_during_the_close_is_ended_by_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda run: setattr(bench.manager, "_closed", True))
    live = bench.start()
    error = drive(bench.manager.wait(live)).error
    assert error is not None
    assert error.message == "the node was closed"


def test_a_look_at_a_live_execution_settles_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    assert bench.manager.look(live).status == "running"
    finish(bench.run)
    assert (bench.manager.look(live).status, live.execution.output) == ("completed", b"out")


def test_a_wait_has_its_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    with pytest.raises(TimeoutError, match="has not ended after 10ms"):
        drive(bench.manager.wait(live, 10_000_000))
    finish(bench.run)
    assert drive(bench.manager.wait(live, 0)).completed


async def test_a_wait_on_a_loop_has_its_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    with pytest.raises(TimeoutError, match="has not ended after 10ms"):
        await bench.manager.wait(live, 10_000_000)
    finish(bench.run)
    assert (await bench.manager.wait(live, 0)).completed


async def test_giving_up_a_held_execution_ends_the_guest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    task = asyncio.create_task(bench.manager.hold(live))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert live.execution.status == "terminated"


async def test_giving_up_a_mere_wait_leaves_the_guest_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.manager.wait(live), 0.01)
    assert not live.ended
    bench.manager.close(0)


def test_many_threads_settle_one_end_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    lives = [bench.start() for _ in range(200)]
    for run in bench.runtime.runs:
        run.finish()
    errors: list[BaseException] = []

    def look() -> None:
        try:
            for live in lives:
                drive(bench.manager.wait(live))
                bench.manager.get(live.execution.id)
                bench.manager.stats()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert bench.manager.stats()["executions"]["completed"] == 200

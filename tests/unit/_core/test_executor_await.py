"""Who waits for a run: event loops, drivers, threads; and what a held GIL cannot stop."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterator

import pytest
import uvloop
from guest_runs import (
    HANG_S,
    MS,
    drained,
    ended,
    executor,
    finish,
    guest,
    looping,
    parked,
    python,
)

from spear._core.executor import Executor
from spear._core.outcome import Outcome
from spear._core.run import Run


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


# ---- await

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as made:
        yield made


async def outcome_of(run: Run) -> Outcome:
    return await run


def test_a_run_is_awaited(runner: asyncio.Runner, node: Executor):
    outcome = runner.run(outcome_of(node.start(guest("sleeper"), args=("sleeper", "10"))))
    assert outcome.status == "completed"


def test_a_run_that_ended_is_awaited_at_once(runner: asyncio.Runner, node: Executor):
    run, _ = finish(node, "hello")
    assert runner.run(outcome_of(run)).status == "completed"
    assert runner.run(outcome_of(run)).status == "completed"


def test_many_runs_are_awaited_together(runner: asyncio.Runner, node: Executor):
    async def work() -> list[Outcome]:
        runs = [node.start(guest("sleeper"), args=("sleeper", str(n % 7))) for n in range(600)]
        return await asyncio.gather(*map(outcome_of, runs))

    assert {outcome.status for outcome in runner.run(work())} == {"completed"}


def test_many_tasks_await_one_run(runner: asyncio.Runner, node: Executor):
    async def work() -> list[Outcome]:
        run = parked(node)
        tasks = [asyncio.ensure_future(outcome_of(run)) for _ in range(10)]
        await asyncio.sleep(0.01)
        run.cancel()
        return await asyncio.gather(*tasks)

    assert [outcome.cause for outcome in runner.run(work())] == ["cancelled"] * 10


def test_a_cancelled_task_leaves_the_run_to_others(runner: asyncio.Runner, node: Executor):
    async def work() -> Outcome:
        run = parked(node)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outcome_of(run), 0.02)
        task = asyncio.ensure_future(outcome_of(run))
        await asyncio.sleep(0)
        run.cancel("by hand")
        return await task

    assert runner.run(work()).message == "the guest was cancelled: by hand"


def test_a_run_dropped_after_a_cancelled_await_is_cancelled(runner: asyncio.Runner, node: Executor):
    async def work() -> None:
        run = parked(node)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outcome_of(run), 0.02)

    runner.run(work())
    gc.collect()
    drained(node)


def test_the_loop_goes_on_while_guests_run(runner: asyncio.Runner, node: Executor):
    async def work() -> int:
        run = node.start(guest("loop"), args=("loop", "0.1"))
        turns, task = 0, asyncio.ensure_future(outcome_of(run))
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert task.result().status == "completed"
        return turns

    assert runner.run(work()) > 3


@pytest.mark.parametrize("where", ["on the loop", "on a thread"])
def test_a_close_wakes_those_who_await(runner: asyncio.Runner, where: str):
    node = Executor(workers=1)

    async def work() -> Outcome:
        task = asyncio.ensure_future(outcome_of(parked(node)))
        await asyncio.sleep(0)
        if where == "on the loop":
            node.close()
        else:
            await asyncio.to_thread(node.close)
        return await asyncio.wait_for(task, 5)

    assert runner.run(work()).cause == "cancelled"


def test_two_loops_await_their_own_runs(node: Executor):
    results = {}

    def work(name: str) -> None:
        async def many() -> list[Outcome]:
            runs = [node.start(guest("sleeper"), args=("sleeper", "5")) for _ in range(100)]
            return await asyncio.gather(*map(outcome_of, runs))

        with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
            results[name] = {outcome.status for outcome in runner.run(many())}

    threads = [threading.Thread(target=work, args=(name,)) for name in LOOPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: {"completed"} for name in LOOPS}


def test_a_run_awaited_on_a_second_loop_is_refused_or_served(node: Executor):
    """Never a hang: a clear error, or the outcome."""
    run, said = parked(node), []

    def elsewhere() -> None:
        try:
            said.append(asyncio.run(asyncio.wait_for(outcome_of(run), HANG_S)).cause)
        except RuntimeError as error:
            said.append(str(error))

    async def here() -> None:
        task = asyncio.ensure_future(outcome_of(run))
        await asyncio.sleep(0)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        run.cancel()
        assert (await task).cause == "cancelled"

    asyncio.run(here())
    assert len(said) == 1
    assert "another event loop" in said[0]


def test_loops_come_and_go(node: Executor):
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        run = node.start(guest("sleeper"), args=("sleeper", "1"))
        assert asyncio.run(outcome_of(run)).status == "completed"
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= open_before + 2


# ---- without a loop: who drives the coroutine waits


def test_a_driver_gets_the_run_and_waits(node: Executor):
    run = node.start(guest("sleeper"), args=("sleeper", "10"))
    coroutine = outcome_of(run)
    assert coroutine.send(None) is run
    ended(run)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value.status == "completed"


def test_a_driver_that_comes_early_gets_the_run_again(node: Executor):
    run = parked(node)
    coroutine = outcome_of(run)
    assert coroutine.send(None) is run
    assert coroutine.send(None) is run
    run.cancel()
    ended(run)
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_a_run_that_ended_needs_no_driver(node: Executor):
    run, _ = finish(node, "noop")
    with pytest.raises(StopIteration):
        outcome_of(run).send(None)


# ---- the GIL, and signals


def hold_the_gil(seconds: float) -> None:
    """In C, without letting go: nothing in this process that needs the GIL gets on."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def test_guests_get_on_while_the_gil_is_held():
    """Sleepers need the timekeeper and a worker, a loop's slices need both."""
    with executor(workers=1) as node:
        ended(node.start(guest("noop")))
        sleepers = [node.start(guest("sleeper"), args=("sleeper", "20")) for _ in range(40)]
        loop = looping(node)
        before = node.stats()
        hold_the_gil(0.5)
        after = node.stats()
        assert before["ended"] < 41
        assert after["ended"] >= 41, "all sleepers ended meanwhile"
        assert after["polls"] - before["polls"] >= 3, "the loop had its slices meanwhile"
        assert all(run.done for run in sleepers)
        loop.cancel()


def test_a_deadline_is_met_while_the_gil_is_held(node: Executor):
    run = looping(node, timeout_ns=100 * MS)
    hold_the_gil(0.6)
    assert run.done, "nobody asked for the GIL"
    assert run.outcome.cause == "deadline"


def test_other_threads_run_python_during_a_wait(node: Executor):
    run, counted = looping(node), []
    waiting = threading.Thread(target=lambda: counted.append(run.wait(HANG_S)))
    waiting.start()
    assert sum(range(100_000)) > 0
    run.cancel()
    waiting.join()
    assert counted == [True]


def test_an_inline_slice_lets_go_of_the_gil():
    """A guest that loops inline on one thread is cancelled by another."""
    with executor(workers=1) as node:
        done = threading.Event()
        threading.Thread(target=lambda: (done.wait(0.05), node.close())).start()
        run = node.start(guest("loop"), args=("loop",), inline=True)
        assert ended(run).cause == "cancelled"


def test_a_signal_interrupts_a_wait():
    probe = """
import os, signal, threading
from guest_runs import executor, guest
with executor(workers=1) as node:
    run = node.start(guest("loop"), args=("loop",))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        run.wait(30)
    except KeyboardInterrupt:
        print("interrupted", run.done)
    run.cancel()
    print(run.wait(30), run.outcome.cause)
"""
    done = python(probe)
    assert done.stdout == "interrupted False\nTrue cancelled\n", done.stderr


def test_native_threads_take_no_signals(node: Executor):
    finish(node, "noop")
    own = {thread.native_id for thread in threading.enumerate()}
    blocked = {}
    for task in os.listdir("/proc/self/task"):
        if int(task) not in own:
            with open(f"/proc/self/task/{task}/status") as file:
                fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            blocked[task] = int(fields["SigBlk"], 16)
    term = 1 << (signal.SIGTERM - 1)
    assert sum(1 for mask in blocked.values() if mask & term) >= 3, "two workers, a timekeeper"


def test_a_run_whose_wait_was_given_up_can_be_awaited_on_another_loop():
    async def give_up(run: Run) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited(run), 0.01)

    async def awaited(run: Run) -> Outcome:
        return await run

    with executor() as node:
        run = node.start(guest("sleeper"), args=["sleeper", "300"])
        asyncio.run(give_up(run))
        assert asyncio.run(awaited(run)).status == "completed"

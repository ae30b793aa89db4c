"""Runs while they live: read, cancelled, dropped, refused for room, closed with their executor."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
from guest_runs import (
    HANG_S,
    MS,
    SLEEP_FOREVER,
    drained,
    ended,
    executor,
    finish,
    guest,
    logged,
    looping,
    parked,
    python,
)

from spear._core.executor import Executor
from spear._core.run import Run
from spear.errors import NodeBusy, NodeClosed


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


# ---- reading while it runs


def test_output_and_logs_are_read_as_they_come(node: Executor):
    run = node.start(guest("stdout_flood"), args=("stdout_flood", "1000000"), log_stdout=False)
    got = b""
    while not run.wait(HANG_S, events=True):
        got += run.read_output()
    got += run.read_output()
    assert run.read_output() == b""
    assert got == run.output
    assert len(got) == 1_000_000


def test_a_wait_for_events_ends_when_there_is_something_to_read(node: Executor):
    run = node.start(guest("sleeper"), args=SLEEP_FOREVER)
    assert not run.wait(HANG_S, events=True)
    assert logged(run) == ["going to sleep for -1 ms"]
    assert not run.wait(0.01, events=True), "nothing new: the limit ends it"
    run.cancel()
    assert run.wait(HANG_S, events=True)
    assert run.wait(0)


@pytest.mark.parametrize("timeout_s", [0, 0.0, -1, 0.01, -1e300])
def test_a_wait_has_its_limit(node: Executor, timeout_s: float):
    run = parked(node)
    assert run.wait(timeout_s) is False
    assert not run.done


def test_a_run_may_be_waited_for_by_many_threads(node: Executor):
    run, seen = parked(node), []
    threads = [threading.Thread(target=lambda: seen.append(run.wait(HANG_S))) for _ in range(8)]
    for thread in threads:
        thread.start()
    run.cancel("enough")
    for thread in threads:
        thread.join()
    assert seen == [True] * 8
    assert run.outcome.message == "the guest was cancelled: enough"


# ---- cancel


def in_another_thread(call: object) -> object:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()))  # type: ignore[operator]
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("state", ["running", "parked", "in a poll", "queued", "in its start"])
def test_a_cancel_reaches_the_guest_in_each_state(state: str):
    with executor(workers=1) as node:
        if state == "queued":  # behind one that has the only worker
            looping(node)
            kept = [node.start(guest("loop"), args=("loop",)) for _ in range(3)]
            run = kept.pop()
        elif state == "running":
            run = looping(node)
        elif state == "parked":
            run = parked(node)
        elif state == "in a poll":
            run = node.start(guest("pause"), args=("pause", "900000"))
        else:
            run = node.start(guest("start_loop"))
        assert in_another_thread(lambda: run.cancel("why not")) is True
        outcome = ended(run)
        assert (outcome.status, outcome.cause, outcome.exit_code) == ("terminated", "cancelled", -1)
        assert outcome.message == "the guest was cancelled: why not"
        assert run.cancel("again") is False
        assert run.outcome.message == outcome.message


def test_a_cancel_after_the_end_changes_nothing(node: Executor):
    run, outcome = finish(node, "hello")
    assert run.cancel("late") is False
    assert (run.outcome.status, run.outcome.message) == (outcome.status, "")


def test_the_first_cancel_gives_the_reason(node: Executor):
    run = looping(node)
    given = [run.cancel(reason) for reason in ("first", "second")]
    assert given[0] is True
    assert ended(run).message == "the guest was cancelled: first"


def test_cancels_from_many_threads_end_it_once(node: Executor):
    for make in (looping, parked):
        run, barrier, won = make(node), threading.Barrier(6), []

        def cancel(run: Run = run, barrier: threading.Barrier = barrier, won: list = won) -> None:
            barrier.wait()
            won.append(run.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended(run)
        assert won.count(True) == 1


def test_guests_cancelled_in_the_queue_leave_no_trace():
    """More of them than the run queue has room for, while the only worker is busy."""
    with executor(workers=1, guests_max=2, epoch_tick_ms=200) as node:
        looping(node)
        causes = set()
        for _ in range(4000):
            run = node.start(guest("noop"))
            run.cancel()
            causes.add(ended(run).cause)
        assert causes <= {"cancelled", "exit"}


# ---- dropping


@pytest.mark.parametrize("make", [looping, parked])
def test_a_dropped_run_is_cancelled(node: Executor, make: object):
    run = make(node)  # type: ignore[operator]
    assert node.stats()["live"] == 1
    del run
    drained(node)


def test_a_run_dropped_in_a_cycle_is_cancelled():
    """In a process of its own: what goes wrong here is a crash."""
    probe = """
import gc
from guest_runs import executor, guest
with executor(workers=1) as node:
    for _ in range(10):
        run = node.start(guest("sleeper"), args=("sleeper", "-1"))
        ring = [run]
        ring.append(ring)
        del run, ring
        gc.collect()
    print(node.stats()["live"])
"""
    done = python(probe)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_a_run_outlives_the_name_of_its_executor():
    node = Executor(workers=1)
    run = node.start(guest("sleeper"), args=("sleeper", "20"))
    del node
    gc.collect()
    assert ended(run).status == "completed"


# ---- how many


def test_a_node_is_busy_beyond_its_guests():
    with executor(guests_max=3) as node:
        runs = [parked(node) for _ in range(3)]
        with pytest.raises(NodeBusy, match="3 guests live already"):
            node.start(guest("noop"))
        assert node.stats()["live"] == 3
        runs[0].cancel()
        ended(runs[0])
        drained(node, 2)
        assert ended(node.start(guest("noop"))).status == "completed"


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_an_ended_guest_leaves_its_place_at_once(inline: bool):
    with executor(workers=1, guests_max=1) as node:
        for _ in range(2000):
            ended(node.start(guest("noop"), inline=inline))


def test_many_threads_may_start_at_once(node: Executor):
    barrier, statuses = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        runs = [node.start(guest("hello"), inline=n % 2 == 0) for n in range(50)]
        statuses.extend(ended(run).status for run in runs)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == ["completed"] * 400
    stats = node.stats()
    assert (stats["started"], stats["ended"]) == (400, 400)


def test_a_thousand_may_be_parked():
    with executor(workers=1, guests_max=1000) as node:
        runs = [node.start(guest("sleeper"), args=SLEEP_FOREVER) for _ in range(1000)]
        for run in runs:
            while not run.read_logs():
                run.wait(events=True)
        assert node.stats()["live"] == 1000
        for run in runs:
            assert run.cancel()
        assert {ended(run).cause for run in runs} == {"cancelled"}


def test_a_loop_does_not_stop_the_others():
    with executor(workers=1) as node:
        loops = [looping(node) for _ in range(3)]
        for _ in range(5):
            assert finish(node, "hello")[1].status == "completed"
        assert finish(node, "sleeper", "5")[1].status == "completed"
        assert not any(run.done for run in loops)


def test_loops_share_the_workers():
    """Each of more loops than workers gets on: each reaches its own end."""
    with executor(workers=1) as node:
        runs = [node.start(guest("loop"), args=("loop", "0.2")) for _ in range(4)]
        assert [ended(run).status for run in runs] == ["completed"] * 4


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_many_short_runs(node: Executor, inline: bool):
    for _ in range(500):
        assert finish(node, "noop", inline=inline)[1].status == "completed"


def test_an_inline_guest_has_its_first_slice_on_the_callers_thread(node: Executor):
    run = node.start(guest("hello"), inline=True)
    assert run.done
    assert run.output == b"Hello, SPEAR!\n"
    waiting = node.start(guest("sleeper"), args=SLEEP_FOREVER, inline=True)
    assert waiting.read_logs(), "it has come as far as its wait"
    assert node.stats()["polls"] == 0, "a worker had one of them"


def test_an_inline_guest_that_parks_is_finished_by_a_worker(node: Executor):
    run = node.start(guest("sleeper"), args=("sleeper", "20"), inline=True)
    assert ended(run).status == "completed"
    assert run.output == b"slept well\n"


# ---- the end of an executor


def test_a_closed_executor_takes_no_more():
    node = Executor(workers=1)
    ended(node.start(guest("noop")))
    node.close()
    for inline in (False, True):
        with pytest.raises(NodeClosed):
            node.start(guest("noop"), inline=inline)
    node.close()
    node.close(5)


def test_an_executor_that_ran_nothing_closes():
    Executor(workers=4).close()
    Executor(workers=4).close(10)


@pytest.mark.parametrize("make", [looping, parked])
def test_a_close_ends_what_still_runs(make: object):
    node = Executor(workers=2)
    runs = [make(node) for _ in range(3)]  # type: ignore[operator]
    node.close()
    assert all(run.done for run in runs)
    assert {run.outcome.cause for run in runs} == {"cancelled"}


def test_a_close_waits_for_its_grace():
    node = Executor(workers=1)
    short = node.start(guest("sleeper"), args=("sleeper", "50"))
    node.close(HANG_S)
    assert short.outcome.status == "completed"


def test_a_close_after_its_grace_ends_the_rest():
    node = Executor(workers=1)
    short, endless = node.start(guest("sleeper"), args=("sleeper", "1")), parked(node)
    ended(short)
    node.close(0.02)
    assert endless.outcome.cause == "cancelled"


def test_a_close_while_others_start_leaves_nobody():
    for _ in range(20):
        node, runs = Executor(workers=2), []

        def work(node: Executor = node, runs: list = runs) -> None:
            try:
                while True:
                    runs.append(node.start(guest("loop"), args=("loop",), timeout_ns=20_000 * MS))
            except (NodeClosed, NodeBusy):
                return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        node.close()
        for thread in threads:
            thread.join()
        assert {ended(run).cause for run in runs} <= {"cancelled"}
        assert node.stats()["live"] == 0
        assert node.stats()["ended"] == node.stats()["started"] == len(runs)


def test_a_forked_child_may_go_on_and_end():
    probe = """
import os, sys, time
from guest_runs import guest
from spear._core.executor import Executor
node = Executor(workers=1)
run = node.start(guest("sleeper"), args=("sleeper", "-1"))
while not run.read_logs():
    run.wait(events=True)
child = os.fork()
if child == 0:
    sys.exit(0)
until, status = time.monotonic() + 10, (0, None)
while status[0] == 0 and time.monotonic() < until:
    status = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
if status[0] == 0:
    os.kill(child, 9)
print(status[1])
run.cancel()
print(run.wait(10), run.outcome.cause)
"""
    done = python(probe)
    assert done.stdout == "0\nTrue cancelled\n", done.stderr


def test_reading_output_and_looking_for_news_on_two_threads_end():
    """Neither holds the record's lock while it waits for the GIL."""
    with executor() as node:
        for _ in range(20):
            run = node.start(guest("stdout_flood"), output_bytes_max=8 << 20)
            taken: list[bytes] = []

            def read(run: Run = run, taken: list[bytes] = taken) -> None:
                while not run.done:
                    taken.append(run.read_output())

            reader = threading.Thread(target=read)
            reader.start()
            while not run.wait(0.001, events=True):
                pass
            reader.join(HANG_S)
            assert not reader.is_alive()
            assert b"".join([*taken, run.read_output()]) == run.output

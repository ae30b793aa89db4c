"""Deterministic executors: the same inputs and seed give the same steps, everywhere."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable

import pytest

from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from spear._core.run import Run
from spear._core.trace import Step
from spear.errors import InvalidArgument, NodeBusy
from tests.guest_runs import HANG_S, MS, guest, guest_bytes, logged, python


@functools.cache
def metered() -> Engine:
    return Engine(slots=200, metered=True)


@functools.cache
def module(name: str) -> Module:
    return metered().load(guest_bytes(name))


def mixed(node: Executor) -> list[Run]:
    """Guests that sleep, yield, loop to their deadline, ask for time and randomness, trap, exit."""
    return [
        *(node.start(module("sleeper"), args=("s", str(n * 7 % 5)), priority=n) for n in range(8)),
        node.start(module("clock"), args=("clock", "20")),
        node.start(module("start_loop"), timeout_ns=5 * MS),
        node.start(module("clock_random")),
        node.start(module("unreachable")),
        node.start(module("exit_code"), args=("exit_code", "7")),
    ]


def told(runs: list[Run]) -> list[object]:
    for run in runs:
        assert run.wait(HANG_S)
    return [
        (run.output, run.outcome.status, run.outcome.exit_code, run.outcome.fuel,
         run.outcome.started_ns, run.outcome.duration_ns, logged(run))
        for run in runs
    ]  # fmt: skip


def history(seed: int, scene: Callable[[Executor], list[Run]] = mixed, **settings: str):
    """(what the guests say, every step, the digest)."""
    node = Executor(seed=seed, **settings)
    node.record_steps()
    found = told(scene(node))
    return found, node.take_steps(), node.digest


@pytest.mark.parametrize("strategy", ["round_robin", "priority"])
def test_a_seed_gives_one_history(strategy: str):
    first = history(5, strategy=strategy)
    assert all(history(5, strategy=strategy) == first for _ in range(10))
    assert first[1][-1].digest == first[2]
    assert [step.number for step in first[1]] == list(range(1, len(first[1]) + 1))


def test_another_seed_strategy_or_input_gives_another():
    digests = {
        history(5)[2], history(6)[2], history(5, strategy="priority")[2],
        history(5, lambda node: [node.start(module("echo"), stdin=b"a")])[2],
        history(5, lambda node: [node.start(module("echo"), stdin=b"b")])[2],
        history(5, lambda node: [node.start(module("echo"), stdin=b"a", env={"A": ""})])[2],
        history(5, lambda node: [node.start(module("echo"), stdin=b"a", args=("x",))])[2],
    }  # fmt: skip
    assert len(digests) == 7


def test_other_processes_see_the_same():
    code = (
        "import json\n"
        "from tests.unit._core.test_worlds import history\n"
        "found, steps, digest = history(5)\n"
        "print(json.dumps([digest, len(steps), repr(found)]))\n"
    )
    found, steps, digest = history(5)
    for hash_seed in ("1", "2"):
        done = python(code, env={"PYTHONHASHSEED": hash_seed})
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [digest, len(steps), repr(found)]


def test_time_is_counted_in_fuel_and_jumps_when_nobody_can_run():
    node = Executor(seed=0)
    node.record_steps()
    run = node.start(module("clock"), args=("clock", "30000"))
    assert run.wait(HANG_S)
    now_ms, now_s, _, _, elapsed_ms = run.output.split()
    assert (int(now_ms), int(now_s)) == (1577836800000, 1577836800)
    assert int(elapsed_ms) == 30000
    steps = node.take_steps()
    (jump,) = [step for step in steps if step.kind == "clock"]
    assert jump.now_ns >= 30_000 * MS
    assert steps[-1].kind == "end"
    assert steps[-1].now_ns == jump.now_ns + (steps[-1].fuel - steps[-3].fuel)


def test_randomness_is_each_guest_s_own_and_comes_from_the_seed():
    def numbers(seed: int, ahead: int) -> list[bytes]:
        node = Executor(seed=seed)
        for _ in range(ahead):
            node.start(module("noop"))
        runs = [node.start(module("clock_random")) for _ in range(3)]
        told(runs)
        return [run.output.split()[1] for run in runs]

    first = numbers(1, 0)
    assert len(set(first)) == 3
    assert numbers(1, 0) == first
    assert numbers(1, 1)[:2] == first[1:], "by its number, whatever the others do"
    assert not set(numbers(2, 0)) & set(first)


def test_a_spinning_wait_for_the_clock_ends():
    """Time goes on within a slice as well, so a guest that asks again and again sees it move."""
    node = Executor(seed=0)
    run = node.start(module("pause"), args=("pause", "2"))
    assert run.wait(HANG_S)
    assert run.outcome.status == "completed"


def test_a_deadline_is_of_the_world_s_time():
    node = Executor(seed=0)
    loop = node.start(module("start_loop"), timeout_ns=3 * MS)
    asleep = node.start(module("sleeper"), args=("s", "-1"), timeout_ns=3600 * 1000 * MS)
    assert loop.wait(HANG_S)
    assert loop.outcome.status == "timeout"
    assert 3 * MS <= loop.outcome.duration_ns < 4 * MS
    assert asleep.wait(HANG_S)
    assert asleep.outcome.cause == "deadline"
    assert asleep.outcome.duration_ns == 3600 * 1000 * MS


def test_between_waits_the_world_stands_still():
    node = Executor(seed=0)
    run = node.start(module("sleeper"), args=("s", "5"))
    assert (node.step_count, run.done) == (1, False)
    assert run.wait(HANG_S, events=True) is False
    seen = node.step_count
    assert len(run.read_logs()) == 1
    assert node.step_count == seen
    assert run.wait(HANG_S)


async def test_runs_are_awaited_on_a_loop_with_the_same_history():
    node = Executor(seed=5)
    runs = mixed(node)
    for run in runs:
        await run
    assert node.digest == history(5)[2]
    follower = node.start(module("sleeper"), args=("s", "5"))
    assert await follower.changed() is False
    assert [line.message for line in follower.read_logs()] == ["going to sleep for 5 ms"]
    assert (await asyncio.wait_for(follower, HANG_S)).status == "completed"


def test_two_threads_that_wait_share_the_steps():
    node = Executor(seed=5)
    runs = mixed(node)
    threads = [
        threading.Thread(target=lambda part=part: [run.wait(HANG_S) for run in part])
        for part in (runs[::2], runs[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(run.done for run in runs)


def test_urgent_guests_come_first_by_priority_only():
    def ends(strategy: str) -> list[int]:
        node = Executor(seed=0, strategy=strategy)
        node.record_steps()
        runs = [node.start(module("noop"), priority=200 - n) for n in range(6)]
        told(runs)
        return [step.guest for step in node.take_steps() if step.kind == "end"]

    assert ends("round_robin") == [1, 2, 3, 4, 5, 6]
    assert ends("priority") == [6, 5, 4, 3, 2, 1]


def test_urgent_loops_cannot_starve_the_others():
    node = Executor(seed=0, strategy="priority")
    loops = [node.start(module("start_loop"), priority=0, timeout_ns=50 * MS) for _ in range(3)]
    last = node.start(module("noop"), priority=255)
    assert last.wait(HANG_S)
    assert not any(run.done for run in loops)


# ---- replay


def recorded(seed: int = 5) -> list[Step]:
    return history(seed)[1]


def test_a_replay_that_agrees_diverges_nowhere():
    steps = recorded()
    node = Executor(seed=5)
    node.expect_steps([step.digest for step in steps])
    told(mixed(node))
    assert (node.diverged, node.step_count) == (0, len(steps))


@pytest.mark.parametrize("at", [0, 14, 30, -1])
def test_a_replay_stops_at_the_first_difference(at: int):
    digests = [step.digest for step in recorded()]
    digests[at] ^= 1
    node = Executor(seed=5)
    node.expect_steps(digests)
    told(mixed(node))
    assert node.diverged == (at if at >= 0 else len(digests) + at) + 1


def test_a_replay_that_goes_on_for_longer_differs_where_the_record_ends():
    digests = [step.digest for step in recorded()][:20]
    node = Executor(seed=5)
    node.expect_steps(digests)
    told(mixed(node))
    assert node.diverged == 21


def test_a_difference_ends_all_guests():
    node = Executor(seed=5)
    node.expect_steps([])
    run = node.start(module("start_loop"))
    assert run.wait(HANG_S)
    assert run.outcome.cause == "cancelled"


def test_what_is_expected_is_said_before_the_first_step():
    node = Executor(seed=5)
    node.start(module("noop"))
    with pytest.raises(InvalidArgument, match="before the first step"):
        node.expect_steps([1])
    with pytest.raises((OverflowError, TypeError)):
        Executor(seed=5).expect_steps([-1])


# ---- what is refused


def test_only_metered_modules_live_in_a_world():
    with pytest.raises(InvalidArgument, match=r"Engine\(metered=True\)"):
        Executor(seed=1).start(guest("noop"))


def test_batches_and_warm_instances_are_of_real_time():
    node = Executor(seed=1)
    with pytest.raises(InvalidArgument, match="one by one"):
        node.run_many(module("noop"), 2)
    with pytest.raises(InvalidArgument, match="no warm instances"):
        node.instantiate(module("add"))


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"seed": "1"},
        {"seed": 1, "strategy": "best"},
        {"strategy": "priority"},
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object]):
    with pytest.raises(InvalidArgument, match=r"seed|strategy"):
        Executor(**settings)  # type: ignore[arg-type]


def test_an_executor_of_real_time_has_no_steps():
    node = Executor(workers=1)
    for ask in (lambda: node.digest, lambda: node.take_steps(), lambda: node.expect_steps([])):
        with pytest.raises(InvalidArgument, match="lives in real time"):
            ask()
    node.close()


def test_room_and_close_are_as_ever():
    node = Executor(seed=1, guests_max=2)
    runs = [node.start(module("sleeper"), args=("s", "-1")) for _ in range(2)]
    with pytest.raises(NodeBusy):
        node.start(module("noop"))
    node.close()
    assert [run.outcome.cause for run in runs] == ["cancelled", "cancelled"]

"""Deterministic executors: the same inputs and seed give the same steps, everywhere."""

from __future__ import annotations

import asyncio
import functools
import json
import platform
import threading
from collections.abc import Callable

import pytest

from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from spear._core.filetable import Directory
from spear._core.run import Run
from spear._core.trace import Step
from spear.errors import InvalidArgument, NodeBusy
from tests import wasm_asm as asm
from tests.guest_runs import (
    HANG_S,
    MS,
    ended,
    engine,
    executor,
    guest,
    guest_bytes,
    logged,
    python,
)  # fmt: skip


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


F32_LOAD, V128_CONST = asm.i32_const(0) + b"\x2a\x02\x00", b"\xfd\x0c"
# What processors do not agree on: 0 in a world; what x86-64 does outside stands beside it.
PECULIAR = {
    "the sign of 0 / 0": (F32_LOAD * 2 + b"\x95\xbc" + asm.i32_const(31) + b"\x76", 1),
    "a lane that is not there": (
        V128_CONST + b"\7" * 16 + V128_CONST + b"\x10" * 16 + b"\xfd\x80\x02\xfd\x16\x00", 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PECULIAR)
def test_results_do_not_depend_on_the_processor(what: str):
    code, by_x86 = PECULIAR[what]
    wasm = asm.module([(asm.WASI, "proc_exit", "i", "")], code + asm.call(0))
    [(_, _, exit_code, *_)] = told([Executor(seed=1).start(metered().load(wasm))])
    assert exit_code == 0
    if platform.machine() == "x86_64":  # elsewhere the probe may find nothing to make equal
        with executor(workers=1) as node:
            assert ended(node.start(engine().load(wasm))).exit_code == by_x86


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


# ---- time that the machine spends, threads, what comes from outside


def filling(size: int) -> Module:
    """Asks for so many random bytes again and again."""
    body = asm.i32_const(0) + asm.i32_const(size) + asm.call(0) + asm.DROP
    code = asm.LOOP + body + asm.BR_0 + asm.END
    rows = [("wasi_snapshot_preview1", "random_get", "ii", "i")]
    return metered().load(asm.module(rows, code, pages=20))


def test_what_hostcalls_do_costs_a_guest_its_time_and_its_fuel():
    greedy = filling(1 << 20)
    late = Executor(seed=0).start(greedy, timeout_ns=20 * MS)
    assert late.wait(HANG_S)
    assert late.outcome.cause == "deadline"
    poor = Executor(seed=0).start(greedy, fuel=10 << 20)
    assert poor.wait(HANG_S)
    assert (poor.outcome.cause, poor.outcome.fuel >= 10 << 20) == ("fuel", True)


def test_a_slice_that_lasts_lets_who_waits_look_up_and_leaves_no_trace():
    """Each call takes a mebibyte of random bytes, so that one slice lasts for seconds."""
    node = Executor(seed=0)
    node.record_steps()
    run = node.start(filling(1 << 20), timeout_ns=3600 * 1000 * MS)
    assert not run.wait(0.2)
    assert [step.kind for step in node.take_steps()] == ["start"]
    assert run.cancel()
    assert run.wait(HANG_S)
    assert run.outcome.cause == "cancelled"


def test_pauses_change_nothing():
    """A slice of many mebibytes, paused or not, ends at the same fuel and time."""
    digests = set()
    for wait_s in (HANG_S, 0.002):
        node = Executor(seed=0)
        run = node.start(filling(1 << 16), timeout_ns=200 * MS)
        while not run.wait(wait_s):
            pass
        digests.add(node.digest)
    assert len(digests) == 1


def test_ends_from_other_threads_meet_the_world_between_two_steps():
    node = Executor(seed=0, guests_max=100)
    node.record_steps()
    stepping = node.start(module("start_loop"), timeout_ns=60_000 * MS)
    stop = threading.Event()
    numbers: list[int] = []

    def step() -> None:
        while not stop.is_set():
            stepping.wait(0.001)
            numbers.extend(found.number for found in node.take_steps())

    thread = threading.Thread(target=step)
    thread.start()
    for _ in range(300):
        runs = [node.start(module("start_loop")) for _ in range(3)]
        runs[0].cancel()
        del runs
    stop.set()
    thread.join(HANG_S)
    assert not thread.is_alive()
    node.close()
    numbers.extend(found.number for found in node.take_steps())
    assert numbers == list(range(1, len(numbers) + 1)), "each step once and in order"


def test_coroutines_take_turns_by_steps_not_by_time():
    async def both(node: Executor) -> None:
        async def one_after_another(name: str) -> None:
            for ms in ("3", "1", "2"):
                await node.start(module(name), args=(name, ms))

        await asyncio.gather(one_after_another("sleeper"), one_after_another("clock"))

    def digest() -> int:
        node = Executor(seed=0)
        loop = [node.start(module("start_loop"), timeout_ns=30 * MS) for _ in range(2)]
        asyncio.run(both(node))
        assert loop
        return node.digest

    assert len({digest() for _ in range(5)}) == 1


def test_records_and_logs_have_the_time_that_the_guest_sees():
    node = Executor(seed=0)
    run = node.start(module("hello"), args=("hello",))
    assert run.wait(HANG_S)
    begin_ms = 1_577_836_800_000
    assert run.outcome.started_ns == begin_ms * 10**6
    assert {line.time_ms for line in run.read_logs()} == {begin_ms}
    silent = node.start(module("no_memory"))
    assert silent.wait(HANG_S)
    assert silent.read_logs()[0].time_ms // 1000 == begin_ms // 1000, "our own warning too"


def test_what_comes_from_outside_is_refused(tmp_path):
    node = Executor(seed=0)
    with pytest.raises(InvalidArgument, match="no directories"):
        node.start(module("hello"), dirs=[Directory(tmp_path)])
    with pytest.raises(InvalidArgument, match="no streams"):
        node.start(module("hello")).stream(1)
    with pytest.raises(InvalidArgument, match="no handlers"):
        Executor(seed=0, handlers={1: lambda call: 0})


def test_a_close_with_grace_lets_the_world_go_on():
    node = Executor(seed=0)
    run = node.start(module("sleeper"), args=("s", "5000"))
    node.close(HANG_S)
    assert run.outcome.status == "completed"

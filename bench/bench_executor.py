"""The executor's own costs: a hostcall, a hand-off to Python, a warm task, determinism.

Rule: every row names the guest's shape. All guests here are small (one page, none touched) but
where a row says otherwise. Costs and round trips are taken on one vCPU. A limit is an absolute
figure, shown as a peer; the machine must be quiet for it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import each_us, interleaved, record
from bench.turning import PARKED, SMALL, YIELDING, YIELDS, assembled, yield_us
from spear._core import trial
from spear._core.door import Call
from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from spear._core.objstore import ObjectStore

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHAPES = ROOT / "tests" / "guests" / "shapes"

HOSTCALLS = 1_000_000
NOOP_NS_MAX = 30.0
HANDOFFS = 5_000
GUESTS_CALLING = 64
OBJECT_BYTES = 256
LOOPS_COUNTED = 20_000_000

Loop = Callable[[int], float]  # so many turns; gives seconds


# ---- guests


def repeating(imports: str, once: str, data: str = "") -> bytes:
    """A guest whose `run(n)` does `once` n times."""
    return assembled(f"""(module
      {imports}
      (memory (export "memory") 1)
      {data}
      (func (export "run") (param $n i32)
        (loop $again
          {once}
          (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))""")


HOSTCALL_GUESTS = {
    "no call": ("", "(drop (i32.const 0))", ""),
    "noop": (
        '(import "spear_trial" "noop" (func $noop (result i32)))', "(drop (call $noop))", "",
    ),
    "time_now_ms": (
        '(import "spear" "time_now_ms" (func $time (result i64)))', "(drop (call $time))", "",
    ),
    "random_i64": (
        '(import "spear" "random_i64" (func $random (result i64)))', "(drop (call $random))", "",
    ),
    "object_get": (
        '(import "spear" "object_get" (func $get (param i32 i32 i32 i32 i32) (result i32)))',
        f"""(if (i32.ne (i32.const {OBJECT_BYTES}) (call $get (i32.const 0) (i32.const 10)
               (i32.const 1024) (i32.const 64) (i32.const 72))) (then (unreachable)))""",
        '(data (i32.const 0) "shared/key") (data (i32.const 64) "\\00\\01\\00\\00")',
    ),
}  # fmt: skip

WARM = '(func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))'
SLEEP = '(import "spear" "sleep_ms" (func (param i32)))'
WARM_GUESTS = {
    "calls nothing that waits": f'(module (memory (export "memory") 1) {WARM})',
    "may wait, does not": f'(module {SLEEP} (memory (export "memory") 1) {WARM})',
}


COMPUTING = {
    "nothing but the loop": ("", ""),
    "a product and a sum of 64 bits, stored": (
        "(global $x (mut i64) (i64.const 1))",
        "(global.set $x (i64.add (i64.mul (global.get $x) (i64.const 6364136223846793005))"
        " (i64.const 1442695040888963407)))",
    ),
}

POSTING = {
    "add": repeating(
        '(import "spear_trial" "add" (func $add (param i32 i32) (result i32)))',
        """(if (i32.ne (call $add (local.get $n) (i32.const 1))
               (i32.add (local.get $n) (i32.const 1))) (then (unreachable)))""",
    ),
    "pause": repeating(
        '(import "spear_trial" "pause" (func $pause (result i32)))', "(drop (call $pause))"
    ),
    "echo 64 B": repeating(
        '(import "spear_trial" "echo" (func $echo (param i32 i32 i32 i32) (result i32)))',
        """(if (i32.ne (i32.const 64) (call $echo (i32.const 0) (i32.const 64) (i32.const 1024)
               (i32.const 512))) (then (unreachable)))""",
        '(data (i32.const 512) "\\40\\00\\00\\00")',
    ),
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(slots=PARKED + 100, trial=True)


def seconds_of(executor: Executor, module: Module, count: int, **more: Any) -> float:
    """Of one guest's `run(count)`, begun on this thread."""
    began = time.perf_counter_ns()
    run = executor.start(module, entry="run", call_args=(count,), inline=True, **more)
    run.wait()
    assert run.outcome.status == "completed", run.outcome.message
    return (time.perf_counter_ns() - began) / 1e9


# ---- calls answered in place


def test_a_hostcall_answered_in_place(benchmark, pinned, engine, executor_of):
    executor, store = executor_of(1), ObjectStore(64 << 20)
    store.put(b"shared/key", bytes(OBJECT_BYTES))
    modules = {name: engine.load(repeating(*parts)) for name, parts in HOSTCALL_GUESTS.items()}

    def turn_ns(name: str) -> float:
        more = {"objects": store, "task": "bench"} if name == "object_get" else {}
        return seconds_of(executor, modules[name], HOSTCALLS, **more) / HOSTCALLS * 1e9

    values = interleaved(benchmark, {name: partial(turn_ns, name) for name in ("noop", *modules)})
    bare = values.pop("no call")
    calls = {
        name: [ns - loop for ns, loop in zip(column, bare, strict=True)]
        for name, column in values.items()
    }
    mine = calls.pop("noop")
    record(
        "no-op hostcall, one vCPU",
        mine,
        "ns",
        {
            "limit": [NOOP_NS_MAX] * len(mine),
            **{name.replace("_get", f"_get, {OBJECT_BYTES} B"): ns for name, ns in calls.items()},
            "the loop's own turn": bare,
        },
        {"limit": ("<=", 1.0)},
        note=f"{SMALL} (by object_get: 1), on a fiber; {HOSTCALLS:,} turns with the call less as "
        "many without it",
    )


# ---- calls that Python answers


def adding(call: Call) -> int:
    return call.args[0] + call.args[1]


HANDLERS = {
    trial.ADD: adding,
    trial.PAUSE: lambda call: 0,
    trial.ECHO: lambda call: (len(call.args[0]), call.args[0]),
}


def plain_add(a: int, b: int) -> int:
    return a + b


async def posted_us(executor: Executor, module: Module, guests: int = 1) -> float:
    """A call's share of the time of so many guests that call Python again and again."""
    each = HANDOFFS // guests + 1
    executor.serve(HANDLERS)
    began = time.perf_counter_ns()
    runs = [executor.start(module, entry="run", call_args=(each,)) for _ in range(guests)]
    for run in runs:
        outcome = await run
        assert outcome.status == "completed", outcome.message
    return (time.perf_counter_ns() - began) / (guests * each) / 1e3


async def bare_us(post_of: Callable[..., Any]) -> float:
    """A call's share where a bare thread calls."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    post = post_of(plain_add, HANDOFFS, ended.set)
    loop.add_reader(post.fd, post.ring)
    began = time.perf_counter_ns()
    post.start()
    await ended.wait()
    took = time.perf_counter_ns() - began
    loop.remove_reader(post.fd)
    assert post.join() == 0
    return took / HANDOFFS / 1e3


def test_a_call_answered_by_python(benchmark, pinned, engine, runner, executor_of, cython_module):
    executor, post_of = executor_of(1), cython_module("handoff").Post
    modules = {name: engine.load(wasm) for name, wasm in POSTING.items()}
    values = interleaved(
        benchmark,
        {
            "spear": lambda: runner.run(posted_us(executor, modules["add"])),
            "a bare thread, eventfd, uvloop": lambda: runner.run(bare_us(post_of)),
            "spear, pause": lambda: runner.run(posted_us(executor, modules["pause"])),
            "spear, echo 64 B": lambda: runner.run(posted_us(executor, modules["echo 64 B"])),
            "many": lambda: runner.run(posted_us(executor, modules["add"], GUESTS_CALLING)),
        },
        turns=3,
    )
    many, alone = values.pop("many"), values.pop("spear")
    record(
        "a guest's call to Python and back, uvloop, one vCPU",
        alone,
        "us",
        values,
        {"a bare thread, eventfd, uvloop": ("<=", 1.3)},
        note=f"{SMALL} (by echo: 1); add(n, 1) by a plain handler, one worker; the floor calls "
        "a Python function with the same numbers, rings by an eventfd and waits on a semaphore",
    )
    record(
        f"calls to Python, {GUESTS_CALLING} guests at once, one vCPU",
        [1e3 / us for us in many],
        "k/s",
        {
            "one guest": [1e3 / us for us in alone],
            "a bare thread": [1e3 / us for us in values["a bare thread, eventfd, uvloop"]],
        },
        {},
        note=f"{SMALL}; add(n, 1) by a plain handler",
    )


# ---- warm tasks


def each_awaited_us(
    runner: asyncio.Runner, action: Callable[[], Awaitable[object]], count: int
) -> float:
    """Microseconds of one awaited call; a tenth goes ahead."""

    async def loop() -> float:
        for _ in range(count // 10):
            await action()
        began = time.perf_counter_ns()
        for _ in range(count):
            await action()
        return (time.perf_counter_ns() - began) / count / 1e3

    return runner.run(loop())


@pytest.fixture
def pool(pinned) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        made.submit(plain_add, 1, 2).result()
        yield made


@pytest.mark.parametrize("guest", list(WARM_GUESTS))
def test_a_warm_task(benchmark, pinned, pool, engine, runner, executor_of, guest):
    module = engine.load(assembled(WARM_GUESTS[guest]))
    assert bool(module.waiting) == (guest == "may wait, does not")
    add = executor_of(1).instantiate(module).function("add")
    assert add(1, 2) == 3

    async def in_a_pool() -> None:
        await asyncio.get_running_loop().run_in_executor(pool, plain_add, 1, 2)

    values = interleaved(
        benchmark,
        {
            "sync": lambda: each_us(lambda: add(1, 2), 20_000),
            "ThreadPoolExecutor": lambda: each_us(
                lambda: pool.submit(plain_add, 1, 2).result(), 4_000
            ),
            "async": lambda: each_awaited_us(runner, lambda: add.start(1, 2), 4_000),
            "run_in_executor": lambda: each_awaited_us(runner, in_a_pool, 4_000),
            "inline": lambda: each_awaited_us(runner, lambda: add.start(1, 2, inline=True), 4_000),
        },
    )
    record(
        f"warm task, sync, one vCPU (a module that {guest})",
        values["sync"],
        "us",
        {"ThreadPoolExecutor": values["ThreadPoolExecutor"]},
        {"ThreadPoolExecutor": ("<=", 0.3)},
        note=f"{SMALL}; add(1, 2) of one instance against submit(add).result(), a pool of one",
    )
    record(
        f"warm task, awaited on uvloop, one vCPU (a module that {guest})",
        values["async"],
        "us",
        {
            "run_in_executor": values["run_in_executor"],
            "the same, first slice on the loop's thread": values["inline"],
        },
        {"run_in_executor": ("<=", 0.55)},
        note=f"{SMALL}; await add.start(1, 2) on a worker against a pool of one thread",
    )


def test_a_task_through_the_node(benchmark, pinned, pool, runner, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from spear import Spearlet

    wasm = SHAPES / "noop.wasm"

    async def in_a_pool() -> None:
        await asyncio.get_running_loop().run_in_executor(pool, plain_add, 1, 2)

    async def opened() -> Any:
        node = Spearlet()
        return node, await node.load(wasm)

    with Spearlet.sync() as plain:
        node, awaited = runner.run(opened())
        artifact = plain.load(wasm)
        values = interleaved(
            benchmark,
            {
                "sync": lambda: each_us(lambda: plain.run(artifact), 4_000),
                "async": lambda: each_awaited_us(runner, lambda: node.run(awaited), 4_000),
                "ThreadPoolExecutor": lambda: each_us(
                    lambda: pool.submit(plain_add, 1, 2).result(), 4_000
                ),
                "run_in_executor": lambda: each_awaited_us(runner, in_a_pool, 4_000),
            },
        )
        runner.run(node.close())
    for face, peer in (("sync", "ThreadPoolExecutor"), ("async", "run_in_executor")):
        record(
            f"a run through Spearlet, {face}, one vCPU",
            values[face],
            "us",
            {peer: values[peer]},
            {},
            note=f"{SMALL}; a fresh guest with its record, history and limits; the peer calls a "
            "Python function in a pool of one thread",
        )


# ---- determinism


@pytest.fixture(scope="module")
def metered() -> Engine:
    return Engine(metered=True)


@pytest.mark.parametrize("work", list(COMPUTING))
def test_the_cost_of_determinism(benchmark, pinned, engine, metered, executor_of, work):
    plain, seeded = executor_of(1), executor_of(1, seed=7)
    modules = {made: made.load(repeating(*COMPUTING[work])) for made in (engine, metered)}

    def turns_m(executor: Executor, made: Engine) -> float:
        return LOOPS_COUNTED / seconds_of(executor, modules[made], LOOPS_COUNTED) / 1e6

    values = interleaved(
        benchmark,
        {
            "spear": partial(turns_m, seeded, metered),
            "metered, not deterministic": partial(turns_m, plain, metered),
            "plain": partial(turns_m, plain, engine),
        },
    )
    record(
        f"deterministic: a guest that only computes, one vCPU ({work})",
        values.pop("spear"),
        "M turns/s",
        values,
        {},
        note=f"{SMALL}; {LOOPS_COUNTED:,} turns of a loop, a turn is {work}",
    )


def test_deterministic_steps(benchmark, pinned, engine, metered, executor_of):
    guests = 500
    plain, seeded = executor_of(1), executor_of(1, seed=7)
    slow, fast = metered.load(YIELDING), engine.load(YIELDING)

    def steps_k() -> float:
        before, began = seeded.step_count, time.perf_counter_ns()
        runs = [seeded.start(slow) for _ in range(guests)]
        for run in runs:
            run.wait()
            assert run.outcome.status == "completed"
        took = time.perf_counter_ns() - began
        return (seeded.step_count - before) / took * 1e6

    values = interleaved(
        benchmark,
        {
            "spear": steps_k,
            "turns of a plain executor": lambda: 1e3 / yield_us(plain, fast, guests),
        },
    )
    record(
        "deterministic: steps, one vCPU",
        values.pop("spear"),
        "k/s",
        values,
        {},
        note=f"{SMALL}; {guests} guests that each give up their turn {YIELDS} times",
    )

"""Guests against the C floor of the same path, wasmtime-py and Node.

Rule: every row names the guest's shape. *Small* guests have one page of memory (`noop`, touches
none of it) or three (`touch_small`, touches 3 host pages); the *large* one has 258 pages, a stack
of 16 MiB first, and touches 3 host pages at the end (`touch_large`). Costs are taken on one vCPU,
throughput and scaling on two. The C floor (native/guest_floor.c) does with Wasmtime's library what
an execution needs (store, limiter, epoch callback, deadline, instance, `_start`, call, drop) and
nothing else; *pooled* is Wasmtime's own allocator with 1 MiB of each memory kept, *pooled, drop*
with none kept, *recycler* our own on an on-demand engine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import each_us, interleaved, record
from spear._core.engine import Engine, Module
from spear._core.executor import Executor
from tests import wasm_bytes

HERE = Path(__file__).resolve().parent
NATIVE = HERE / "native"
SHAPES = HERE.parent / "tests" / "guests" / "shapes"

CPUS = sorted(os.sched_getaffinity(0))
ROUND_MS = 150  # of a floor or of Node; ours run about as long
BOTH_MS = 500  # the same on two vCPUs: the system spreads new work over both within about 100 ms
BOTH_GUESTS = 150_000  # a worker's share of ours there
FRESH = {
    "noop": "small guest, 1 page, none touched",
    "touch_small": "small guest, 3 pages, 3 host pages touched",
    "touch_large": "large guest, 258 pages, 3 host pages touched",
}
FRESH_K_MIN = 300.0  # noop, on two workers
SCALING_MIN = 1.4  # of small guests
DEADLINE_MS = 50
LATE_MS_MAX = 20.0
LAG_MS_MAX = 20.0
KILLS = 6  # a round
LOOPS = 4

two_vcpus = pytest.mark.skipif(len(CPUS) < 2, reason="throughput is taken on two vCPUs")


# ---- what runs


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def loop_wasm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small guest whose `_start` loops for ever without a call to the host."""
    path = tmp_path_factory.mktemp("wasm") / "loop.wasm"
    path.write_bytes(
        wasm_bytes.HEADER
        + wasm_bytes.section(1, wasm_bytes.vector(wasm_bytes.func_type()))
        + wasm_bytes.section(3, wasm_bytes.vector(b"\0"))
        + wasm_bytes.section(5, wasm_bytes.vector(b"\0" + wasm_bytes.leb(1)))
        + wasm_bytes.section(
            7,
            wasm_bytes.vector(wasm_bytes.export("memory", 2, 0), wasm_bytes.export("_start", 0, 0)),
        )
        + wasm_bytes.section(10, wasm_bytes.vector(wasm_bytes.text(b"\0\x03\x40\x0c\x00\x0b\x0b")))
    )
    return path


def output_of(*command: object) -> str:
    words = list(map(str, command))
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def wasm_of(guest: str) -> Path:
    return SHAPES / f"{guest}.wasm"


def load(engine: Engine, path: Path) -> Module:
    return engine.load(path.read_bytes())


# ---- fresh guests, natively


def batch_us(executor: Executor, module: Module, count: int) -> float:
    """Microseconds of the whole batch, one guest's share; a tenth of it goes ahead."""
    executor.run_many(module, count // 10)
    batch = executor.run_many(module, count)
    assert (batch.completed, batch.failed) == (count, 0)
    return batch.duration_ns / count / 1e3


def floor_us(floor, guest: str, allocator: str, path: str) -> float:
    return floor("fresh", wasm_of(guest), allocator, path, 1, ROUND_MS)["guest_us"]


def floors_us(floor, guest: str, allocator: str, threads: int) -> float:
    return floor("fresh", wasm_of(guest), allocator, "fiber", threads, BOTH_MS)["guest_us"]


@pytest.mark.parametrize("guest", ["noop", "touch_small", "touch_large"])
def test_fresh_guest_in_the_executor(benchmark, pinned, engine, executor_of, floor, guest):
    large = guest == "touch_large"
    executor, module = executor_of(1), load(engine, wasm_of(guest))
    pooled = "pooled-drop" if large else "pooled"
    values = interleaved(
        benchmark,
        {
            "spear": lambda: batch_us(executor, module, 30_000),
            "C, recycler, fiber": partial(floor_us, floor, guest, "recycler", "fiber"),
            f"C, {pooled}, fiber": partial(floor_us, floor, guest, pooled, "fiber"),
            "C, recycler, sync": partial(floor_us, floor, guest, "recycler", "sync"),
        },
        turns=3,
    )
    goal = ("<=", 1.2 if large else 1.5)
    record(
        f"fresh guest in the executor, one vCPU ({guest})",
        values.pop("spear"),
        "us",
        values,
        {"C, recycler, fiber": goal, f"C, {pooled}, fiber": goal},
        note=f"{FRESH[guest]}; run_many of 30,000 on one worker",
    )


@two_vcpus
@pytest.mark.parametrize("guest", ["noop", "touch_small", "touch_large"])
def test_fresh_guests_on_two_workers(benchmark, engine, executor_of, floor, guest):
    large = guest == "touch_large"
    module = load(engine, wasm_of(guest))
    pooled = "pooled-drop" if large else "pooled"
    contenders: dict[str, Callable[[], float]] = {}
    for workers in (2, 1):
        ours = partial(batch_us, executor_of(workers), module, BOTH_GUESTS * workers)
        contenders[f"spear {workers}"] = ours
        for allocator in ("recycler", pooled):
            theirs = partial(floors_us, floor, guest, allocator, workers)
            contenders[f"C, {allocator}, fiber {workers}"] = theirs
    values = interleaved(benchmark, contenders, turns=1 if large else 3)
    names = [name.removesuffix(" 2") for name in contenders if name.endswith(" 2")]
    rates = {name: [1e3 / us for us in values[f"{name} 2"]] for name in names}
    scaling = {
        name: [one / two for one, two in zip(values[f"{name} 1"], values[f"{name} 2"], strict=True)]
        for name in names
    }
    theirs = (">=", 1 / 1.2)
    goals = (
        {f"C, {allocator}, fiber": theirs for allocator in ("recycler", pooled)} if large else {}
    )
    rates["limit"] = [FRESH_K_MIN] * len(rates["spear"])
    scaling["one worker"] = [1.0] * len(scaling["spear"])
    record(
        f"fresh guests on two workers ({guest})",
        rates.pop("spear"),
        "k/s",
        rates,
        {**goals, **({"limit": (">=", 1.0)} if guest == "noop" else {})},
        note=f"{FRESH[guest]}; run_many of {2 * BOTH_GUESTS:,} against a private loop on each "
        "of two threads",
    )
    record(
        f"fresh guests, two workers over one ({guest})",
        scaling.pop("spear"),
        "x",
        scaling,
        {} if large else {"one worker": (">=", SCALING_MIN)},
        note=FRESH[guest] + ("" if large else "; the aim is 1.7"),
    )


# ---- fresh guests from Python


def wasmtime_py_guest(path: Path) -> Callable[[], None]:
    """One fresh guest through the wasmtime package, by the shortest way it offers."""
    import wasmtime

    engine = wasmtime.Engine()
    linked = wasmtime.Linker(engine).instantiate_pre(wasmtime.Module.from_file(engine, str(path)))

    def run() -> None:
        store = wasmtime.Store(engine)
        linked.instantiate(store).exports(store)["_start"](store)

    return run


@pytest.mark.parametrize("guest", ["noop", "touch_small"])
def test_fresh_guest_from_python(
    benchmark, pinned, engine, executor_of, floor, guest, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from spear import Spearlet

    executor, module = executor_of(1), load(engine, wasm_of(guest))
    node = shutil.which("node")

    def through_the_executor() -> None:
        run = executor.start(module, inline=True)
        run.wait()
        assert run.outcome.status == "completed"

    with Spearlet.sync() as spearlet:
        artifact = spearlet.load(wasm_of(guest))

        def through_the_node() -> None:
            assert spearlet.run(artifact).status == "completed"

        theirs = wasmtime_py_guest(wasm_of(guest))
        contenders = {
            "spear": lambda: each_us(through_the_executor, 20_000),
            "wasmtime-py": lambda: each_us(theirs, 2_000),
            "C, recycler, fiber": partial(floor_us, floor, guest, "recycler", "fiber"),
            "C, pooled, sync": partial(floor_us, floor, guest, "pooled", "sync"),
            "Spearlet": lambda: each_us(through_the_node, 4_000),
        }
        if node:
            script = NATIVE / "fresh_guest.js"
            contenders["Node"] = lambda: float(output_of(node, script, wasm_of(guest), ROUND_MS))
        values = interleaved(benchmark, contenders)
    spearlet_us = values.pop("Spearlet")
    absent = "" if node else "; Node is not installed"
    goals = {"wasmtime-py": ("<=", 0.25), **({"Node": ("<=", 0.7)} if node else {})}
    record(
        f"fresh guest from Python, one vCPU ({guest})",
        values["spear"],
        "us",
        {name: figures for name, figures in values.items() if name != "spear"},
        goals,
        note=f"{FRESH[guest]}; start(inline=True), wait, outcome.status{absent}",
    )
    record(
        f"fresh guest through Spearlet, sync, one vCPU ({guest})",
        spearlet_us,
        "us",
        {"the executor alone": values["spear"], "wasmtime-py": values["wasmtime-py"]},
        {},
        note=f"{FRESH[guest]}; with its record, history and limits",
    )


# ---- warm calls


def test_warm_call_from_python(benchmark, pinned, engine, executor_of, floor):
    import wasmtime

    executor, module = executor_of(1), load(engine, wasm_of("add"))
    ours = executor.instantiate(module).function("add")
    peer_engine = wasmtime.Engine()
    store = wasmtime.Store(peer_engine)
    peer_module = wasmtime.Module.from_file(peer_engine, str(wasm_of("add")))
    theirs = wasmtime.Instance(store, peer_module, []).exports(store)["add"]
    assert ours(1, 2) == theirs(store, 1, 2) == 3
    floors: list[dict[str, float]] = []

    def unchecked_us() -> float:
        floors.append(floor("warm", wasm_of("add"), "add", 1_000_000))
        return floors[-1]["unchecked_us"]

    values = interleaved(
        benchmark,
        {
            "spear": lambda: each_us(lambda: ours(1, 2), 500_000),
            "wasmtime-py": lambda: each_us(lambda: theirs(store, 1, 2), 20_000),
            "C, unchecked": unchecked_us,
            "C, checked": lambda: floors[-1]["checked_us"],
            "a Python function": lambda: each_us(lambda: plain_add(1, 2), 500_000),
        },
        rounds=7,
    )
    mine = values.pop("spear")
    record(
        "warm call add(1, 2) from Python, one vCPU",
        mine,
        "us",
        {**values, "limit": [0.5] * len(mine)},
        {"wasmtime-py": ("<=", 0.04), "limit": ("<=", 1.0)},
        note="small guest, 1 page, none touched; ours and the peers within a lambda",
    )


def plain_add(a: int, b: int) -> int:
    return a + b


# ---- the end of a loop


def late_ms(executor: Executor, module: Module) -> float:
    """How long after its deadline a loop's end is known to who waits for it."""
    began = time.perf_counter_ns()
    run = executor.start(module, timeout_ns=DEADLINE_MS * 1_000_000)
    run.wait()
    late = (time.perf_counter_ns() - began) / 1e6 - DEADLINE_MS
    assert run.outcome.status == "timeout"
    return late


@contextmanager
def loops(executor: Executor, module: Module, count: int) -> Iterator[None]:
    """So many endless loops on the workers meanwhile."""
    runs = [executor.start(module, timeout_ns=3600 * 10**9) for _ in range(count)]
    try:
        yield
    finally:
        assert not any(run.done for run in runs), "a loop ended before its time"
        for run in runs:
            run.cancel()
            run.wait()


@pytest.mark.parametrize("others", [0, LOOPS])
def test_a_loop_is_ended_at_its_deadline(benchmark, engine, executor_of, floor, loop_wasm, others):
    executor, module = executor_of(0), load(engine, loop_wasm)
    seen: dict[str, list[list[float]]] = {"spear": [], "C": []}

    def ours() -> float:
        with loops(executor, module, others):
            seen["spear"].append([late_ms(executor, module) for _ in range(KILLS)])
        return median(seen["spear"][-1])

    def theirs() -> float:
        seen["C"].append(floor("kill", loop_wasm, DEADLINE_MS, KILLS, others)["late_ms"])
        return median(seen["C"][-1])

    values = interleaved(benchmark, {"spear": ours, "C": theirs})
    rounds = len(values["spear"])
    limit = [LATE_MS_MAX] * rounds
    worst = {name: [max(samples) for samples in column[-rounds:]] for name, column in seen.items()}
    what = f"a loop ended after its deadline of {DEADLINE_MS} ms, {others} other loops"
    note = (
        f"small guest; {KILLS} runs a round, {len(CPUS)} workers; C ends it by a thread that "
        "sleeps until the deadline"
    )
    for kind, figures in (("median", values), ("worst", worst)):
        record(
            f"{what}, {kind}",
            figures["spear"],
            "ms late",
            {"C": figures["C"], "limit": limit},
            {"limit": ("<=", 1.0)},
            note=note,
        )


async def lags_ms(seconds: float) -> list[float]:
    """How much later than asked for a task goes on, again and again."""
    lags, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await asyncio.sleep(0.001)
        lags.append((time.perf_counter() - began - 0.001) * 1e3)
    return lags


async def lags_beside_kills(executor: Executor, module: Module, seconds: float) -> list[float]:
    """The same while loops run into their deadlines, awaited on this loop."""
    sampler = asyncio.create_task(lags_ms(seconds))
    while not sampler.done():
        outcome = await executor.start(module, timeout_ns=DEADLINE_MS * 1_000_000)
        assert outcome.status == "timeout"
    return await sampler


def p99(samples: list[float]) -> float:
    return quantiles(samples, n=100)[98]


def test_event_loop_lag_while_loops_run(benchmark, engine, executor_of, floor, loop_wasm):
    uvloop = pytest.importorskip("uvloop")
    executor, module = executor_of(0), load(engine, loop_wasm)
    seconds = 1.0
    worst: list[float] = []

    def ours() -> float:
        with loops(executor, module, LOOPS):
            lags = runner.run(lags_beside_kills(executor, module, seconds))
        worst.append(max(lags))
        return p99(lags)

    def elsewhere() -> float:
        kills = int(seconds * 1e3 / DEADLINE_MS) + 2
        arguments = ("kill", loop_wasm, DEADLINE_MS, kills, LOOPS)

        async def beside() -> list[float]:
            other = asyncio.create_task(asyncio.to_thread(floor, *arguments))
            lags = await lags_ms(seconds)
            await other
            return lags

        return p99(runner.run(beside()))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        values = interleaved(
            benchmark,
            {
                "spear": ours,
                "the same loops in another process": elsewhere,
                "nothing else runs": lambda: p99(runner.run(lags_ms(seconds))),
            },
        )
    mine = values.pop("spear")
    record(
        f"event loop lag p99, {LOOPS} loops run and others are ended",
        mine,
        "ms",
        {**values, "limit": [LAG_MS_MAX] * len(mine)},
        {"limit": ("<=", 1.0)},
        note=f"uvloop, sleeps of 1 ms for {seconds:g} s; worst of a round: median "
        f"{median(worst[-len(mine) :]):.2f} ms; {len(CPUS)} workers",
    )

"""Guests that give up their turn, park and go on: what the executor's turns cost.

Rule: as in bench_executor; all the time of a batch is counted, its guests' start and end too.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record
from bench.turning import PARKED, SMALL, YIELDING, YIELDS, counting, yield_us
from spear._core.engine import Engine, Module
from spear._core.executor import Executor

PARK_US_MAX = 1.0
SLEEPS = 50  # of each guest
RELAYS = 200  # of each guest

SLEEPING = counting(
    '(import "spear" "sleep_ms" (func $sleep (param i32)))', "(call $sleep (i32.const 1))", SLEEPS
)


def relaying(guests: int) -> bytes:
    """Guests that hand one turn round: each parks, and wakes the one that waits longest."""
    return counting(
        '(import "spear_trial" "relay" (func $relay (param i32) (result i32)))',
        f"(drop (call $relay (i32.const {guests})))",
        RELAYS,
        "(drop (call $relay (i32.const 0)))",
    )


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(slots=PARKED + 100, trial=True)


def asyncio_yield_us(runner: asyncio.Runner, tasks: int) -> float:
    """The same turns by tasks of the loop."""

    async def turns() -> None:
        for _ in range(YIELDS):
            await asyncio.sleep(0)

    async def together() -> float:
        began = time.perf_counter_ns()
        await asyncio.gather(*(turns() for _ in range(tasks)))
        return (time.perf_counter_ns() - began) / (tasks * YIELDS) / 1e3

    return runner.run(together())


@pytest.mark.parametrize("guests", [1_000, PARKED])
def test_a_guest_yields_and_goes_on(benchmark, pinned, engine, runner, executor_of, guests):
    executor, module = executor_of(1, guests_max=guests + 10), engine.load(YIELDING)
    values = interleaved(
        benchmark,
        {
            "spear": partial(yield_us, executor, module, guests),
            "tasks of uvloop, sleep(0)": partial(asyncio_yield_us, runner, guests),
        },
    )
    assert executor.stats()["parks"] == 0
    record(
        f"yield: requeue and resume, {guests:,} guests, one worker",
        values.pop("spear"),
        "us",
        values,
        {},
        note=f"{SMALL}; all the time of a batch of guests that each give up their turn {YIELDS} "
        "times by sched_yield, their start and end included, by all the turns",
    )


def park_us(executor: Executor, module: Module, guests: int, times: int) -> float:
    """Of processor time, since the guests have nothing to do while they all sleep."""
    before, began = executor.stats()["parks"], time.process_time_ns()
    batch = executor.run_many(module, guests)
    took = time.process_time_ns() - began
    parks = executor.stats()["parks"] - before
    assert batch.completed == guests
    assert parks > 0.9 * guests * times  # a sleep that is over as it begins parks nobody
    return took / parks / 1e3


def asyncio_park_us(runner: asyncio.Runner, tasks: int) -> float:
    """The same waits by tasks of the loop."""

    async def waits() -> None:
        for _ in range(SLEEPS):
            await asyncio.sleep(0.001)

    async def together() -> float:
        began = time.process_time_ns()
        await asyncio.gather(*(waits() for _ in range(tasks)))
        return (time.process_time_ns() - began) / (tasks * SLEEPS) / 1e3

    return runner.run(together())


@pytest.mark.parametrize("guests", [1_000, PARKED])
def test_a_guest_parks_and_is_woken(benchmark, pinned, engine, executor_of, guests):
    executor, module = executor_of(1, guests_max=guests + 10), engine.load(relaying(guests))
    aims = guests == 1_000
    contenders = {"spear": partial(park_us, executor, module, guests, RELAYS)}
    values = interleaved(benchmark, contenders, turns=3 if aims else 1)
    mine = values.pop("spear")
    record(
        f"park and resume, woken by another guest, {guests:,} guests parked, one worker",
        mine,
        "us",
        {"limit": [PARK_US_MAX] * len(mine)} if aims else {},
        {"limit": ("<=", 1.0)} if aims else {},
        note=f"{SMALL}; all the processor time of a batch of guests of which one runs and all "
        f"others are parked: it wakes who waits longest and parks itself, {RELAYS} times each",
    )


@pytest.mark.parametrize("guests", [1_000, PARKED])
def test_a_guest_sleeps_and_goes_on(benchmark, pinned, engine, runner, executor_of, guests):
    executor, module = executor_of(1, guests_max=guests + 10), engine.load(SLEEPING)
    values = interleaved(
        benchmark,
        {
            "spear": partial(park_us, executor, module, guests, SLEEPS),
            "tasks of uvloop, sleep(0.001)": partial(asyncio_park_us, runner, guests),
        },
    )
    record(
        f"park and resume, by the clock, {guests:,} guests parked, one worker",
        values.pop("spear"),
        "us",
        values,
        {"tasks of uvloop, sleep(0.001)": ("<=", 1.0)},
        note=f"{SMALL}; all the processor time of a batch of guests that each sleep {SLEEPS} times "
        "for 1 ms: park, an entry of the due queue, a wake by the timekeeper, requeue, resume; "
        "what is due within 250 us is served together",
    )

"""Thousands of guests of all kinds from several threads, with cancels at random moments.

Rule: what each thread does depends on its seed; at the end every run has one outcome that its kind
allows, nothing lives, and memory, threads and descriptors are where they were after warming up.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from guest_runs import MS, ended, engine, executor, guest
from held import held_again, held_at_rest

from spear._core.executor import Executor
from spear._core.run import Run

# kind -> (guest, arguments, causes it may end with when nobody cancels it)
KINDS: dict[str, tuple[str, tuple[str, ...], set[str]]] = {
    "noop": ("noop", (), {"exit"}),
    "hello": ("hello", (), {"exit"}),
    "large": ("touch_large", (), {"exit"}),
    "exit": ("exit_code", ("7",), {"exit"}),
    "trap": ("divide", (), {"trap"}),
    "start trap": ("start_trap", (), {"trap"}),
    "sleep": ("sleeper", ("3",), {"exit"}),
    "poll": ("pause", ("2",), {"exit"}),
    "sleep for ever": ("sleeper", ("-1",), {"deadline"}),
    "loop": ("loop", (), {"deadline"}),
    "start loop": ("start_loop", (), {"deadline"}),
    "output flood": ("stdout_flood", ("200000",), {"output_limit"}),
    "log flood": ("log_flood", ("3000",), {"exit"}),
    "grow": ("grow", (), {"exit"}),
}
ENDLESS = {"sleep for ever", "loop", "start loop"}
WEIGHTS = [1 if kind in ENDLESS else 3 if kind in ("log flood", "output flood", "grow") else 12
           for kind in KINDS]  # fmt: skip


def start(rng: random.Random, node: Executor) -> tuple[str, Run]:
    (kind,) = rng.choices(list(KINDS), WEIGHTS)
    name, args, _ = KINDS[kind]
    run = node.start(
        guest(name), args=(name, *args), inline=rng.random() < 0.3, output_bytes_max=100_000,
        memory_bytes_max=20 << 20, log_stdout=rng.random() < 0.2,
        timeout_ns=(20 if kind in ENDLESS else 60_000) * MS,
    )  # fmt: skip
    return kind, run


def check(kind: str, run: Run, cancelled: bool) -> str:
    outcome = ended(run)
    assert outcome.cause in KINDS[kind][2] | ({"cancelled"} if cancelled else set()), (
        kind,
        outcome,
    )
    if outcome.cause == "exit":
        assert outcome.exit_code == (7 if kind == "exit" else 0), (kind, outcome)
    assert len(run.output) == outcome.output_bytes
    return outcome.cause


def churn(node: Executor, seed: int, count: int, ends: Counter[str]) -> None:
    """Starts `count` guests, up to forty at once; cancels, drops and reads some of them."""
    rng = random.Random(seed)
    live: list[list] = []
    for _ in range(count):
        live.append([*start(rng, node), False])
        if rng.random() < 0.15:
            picked = rng.choice(live)
            picked[2] = True
            picked[1].cancel(f"seed {seed}")
        if rng.random() < 0.1:
            rng.choice(live)[1].read_logs(rng.randrange(1, 100))
        if rng.random() < 0.05:
            rng.choice(live)[1].wait(0.001, events=True)
        if rng.random() < 0.03:
            live.pop(rng.randrange(len(live)))  # dropped: cancelled
            ends["dropped"] += 1
        while len(live) > 40:
            ends[check(*live.pop(rng.randrange(len(live))))] += 1
    for entry in live:
        ends[check(*entry)] += 1


def in_threads(node: Executor, threads: int, seed: int, count: int) -> Counter[str]:
    counters, errors = [Counter() for _ in range(threads)], []

    def work(number: int) -> None:
        try:
            churn(node, seed + number, count, counters[number])
        except BaseException as error:
            errors.append(error)

    made = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()
    assert errors == [], f"seed {seed}"
    return sum(counters, Counter())


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("each", [700, pytest.param(33_400, marks=pytest.mark.soak)])
def test_every_guest_ends_once_and_leaves_nothing(each: int):
    with executor(workers=2, guests_max=300) as node:
        in_threads(node, 3, 1000, 200)  # warms up
        gc.collect()
        held_before, resident = held_at_rest(), resident_kib()
        memories, idle = engine().stats()["memories_made"], engine().stats()["idle_bytes"]
        ends = in_threads(node, 3, 2000, each)
        gc.collect()
        stats = node.stats()
        assert sum(ends.values()) == 3 * each
        assert stats["live"] == 0
        assert stats["started"] == stats["ended"] == 600 + 3 * each
        assert {"exit", "trap", "deadline", "cancelled", "output_limit"} <= set(ends)
        assert held_again(held_before) == held_before
        kept = max(0, engine().stats()["idle_bytes"] - idle) // 1024  # for later guests, bounded
        assert resident_kib() < resident + kept + 60 * 1024
        assert engine().stats()["memories_made"] <= memories + 120
        assert engine().stats()["memories_idle"] == engine().stats()["memories_made"]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10_000, 40_000, 1000))
def test_every_guest_ends_once_with_many_seeds(seed: int):
    with executor(workers=2, guests_max=300) as node:
        ends = in_threads(node, 3, seed, 2000)
        assert sum(ends.values()) == 6000
        assert node.stats()["live"] == 0


def test_executors_come_and_go_under_load():
    def once(seed: int) -> None:
        with executor(workers=2, guests_max=100) as node:
            rng = random.Random(seed)
            for _ in range(30):
                start(rng, node)  # dropped at once, or left for the close
            kept = [start(rng, node) for _ in range(30)]
            node.close()
            assert all(ended(run).cause in KINDS[kind][2] | {"cancelled"} for kind, run in kept)

    once(0)
    held_before = held_at_rest()
    for seed in range(1, 12):
        once(seed)
    gc.collect()
    assert held_again(held_before) == held_before


@pytest.mark.parametrize("cancelled", [False, True])
def test_many_tasks_on_a_loop(cancelled: bool):
    async def one(rng: random.Random, node: Executor) -> str:
        kind, run = start(rng, node)
        if cancelled and rng.random() < 0.3:
            try:
                await asyncio.wait_for(_outcome(run), rng.random() * 0.01)
            except TimeoutError:
                run.cancel()
        return check(kind, run, cancelled) if (await _outcome(run)) else ""

    async def work(node: Executor) -> Counter[str]:
        rng = random.Random(7 + cancelled)
        ends: Counter[str] = Counter()
        for _ in range(6):
            ends.update(await asyncio.gather(*(one(rng, node) for _ in range(60))))
        return ends

    with executor(workers=2, guests_max=100) as node:
        assert sum(asyncio.run(work(node)).values()) == 360


async def _outcome(run: Run) -> object:
    return await run


def test_wakes_and_cancels_at_the_same_moment():
    """Sleeps that end about when they are cancelled: either may win, none is lost."""
    rng = random.Random(5)
    with executor(workers=2) as node:
        causes: Counter[str] = Counter()
        for _ in range(300):
            run = node.start(guest("sleeper"), args=("sleeper", "1"), timeout_ns=20_000 * MS)
            run.wait(rng.random() * 0.003)
            run.cancel()
            causes[ended(run).cause] += 1
        assert set(causes) == {"exit", "cancelled"}


def test_deadlines_and_ends_at_the_same_moment():
    with executor(workers=2) as node:
        causes: Counter[str] = Counter()
        for number in range(200):
            run = node.start(
                guest("sleeper"), args=("sleeper", "2"), timeout_ns=1_500_000 + number * 10_000
            )
            causes[ended(run).cause] += 1
        assert set(causes) <= {"exit", "deadline"}

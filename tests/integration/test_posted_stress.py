"""Posted calls and tools in thousands, from several threads and loops, with cancels at any moment.

Rule: what each thread does depends on its seed; at the end every guest has one outcome that it may
have, no handler goes on, and memory, threads and descriptors are where they were.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections import Counter
from typing import Any

import pytest
import uvloop
from guest_runs import HANG_S, MS, ended, executor, resident_kib
from held import held_again, held_at_rest
from trial_runs import OPS, adding, calling, sending, tools_guest

from spear._core.door import Call
from spear._core.executor import Executor
from spear._core.run import Run

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)


class Handlers:
    """Answers of all kinds; counts the tasks that go on."""

    def __init__(self, seed: int) -> None:
        self.rng, self.going_on = random.Random(seed), 0

    def all(self) -> dict[int, Any]:
        return {OPS["add"]: self.add, OPS["pause"]: self.pause, OPS["send"]: self.send}

    def add(self, call: Call) -> Any:
        picked = self.rng.random()
        if picked < 0.1:
            raise ValueError("told to")
        return self.later(call) if picked < 0.5 else adding(call)

    async def later(self, call: Call) -> int:
        self.going_on += 1
        try:
            await asyncio.sleep(self.rng.random() * 0.002)
            return adding(call)
        finally:
            self.going_on -= 1

    async def pause(self, call: Call) -> int:
        self.going_on += 1
        try:
            await asyncio.sleep(self.rng.choice([0, 0.001, HANG_S]))
            return 0
        finally:
            self.going_on -= 1

    async def send(self, call: Call) -> int:
        function, arena = call.args
        self.going_on += 1
        try:
            for _ in range(self.rng.randrange(4)):
                status, text = await call.tool(function, b"tool", (arena, 1024), 100)
                assert (status, text) in ((0, "tool"), (-5, ""), (0, "8"))
            return 3
        finally:
            self.going_on -= 1


def start(rng: random.Random, node: Executor) -> tuple[str, Run]:
    kind = rng.choice(["add", "add", "pause", "same", "sleeps", "pauses", "traps", "loops"])
    more: dict[str, Any] = {"inline": rng.random() < 0.3, "timeout_ns": 20_000 * MS}
    if kind in ("loops", "pause", "pauses") and rng.random() < 0.7:
        more["timeout_ns"] = rng.randrange(1, 20) * MS
    if kind == "add":
        return kind, node.start(calling("add", 3, 4, times=rng.randrange(1, 5)), **more)
    if kind == "pause":
        return kind, node.start(calling("pause"), **more)
    return kind, node.start(tools_guest(), args=("tools", kind, str(rng.randrange(1, 4))), **more)


def check(kind: str, run: Run) -> str:
    outcome = ended(run)
    allowed = {"exit", "cancelled", "deadline"} | ({"trap"} if kind == "traps" else set())
    assert outcome.cause in allowed, (kind, outcome)
    if kind == "add" and outcome.cause == "exit":
        assert outcome.exit_code in (7, -5)
    elif outcome.cause == "exit" and kind not in ("pause",):
        assert set(run.output.split()) <= {b"3", b"-5"}, (kind, run.output)
    return outcome.cause


def churn(node: Executor, seed: int, count: int) -> Counter[str]:
    rng, live, ends = random.Random(seed), [], Counter[str]()
    for _ in range(count):
        live.append(start(rng, node))
        if rng.random() < 0.2 or live[-1][0] == "loops":
            rng.choice(live)[1].cancel()
        if rng.random() < 0.05:
            live.pop(rng.randrange(len(live)))  # dropped: cancelled
        while len(live) > 20:
            kind, run = live.pop(rng.randrange(len(live)))
            if kind in ("loops", "pause", "pauses"):
                run.cancel()
            ends[check(kind, run)] += 1
    for kind, run in live:
        run.cancel()
        ends[check(kind, run)] += 1
    return ends


def stress(node: Executor, seed: int, threads: int, count: int) -> Counter[str]:
    ends: list[Counter[str]] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            ends.append(churn(node, seed + number, count))
        except BaseException as error:
            errors.append(error)

    made = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()
    assert errors == [], f"seed {seed}"
    return sum(ends, Counter())


def until_none_goes_on(handlers: Handlers) -> None:
    while handlers.going_on:
        os.sched_yield()


def test_every_guest_ends_once_and_no_handler_goes_on():
    handlers = Handlers(1)
    with executor(workers=2, guests_max=200, handlers=handlers.all()) as node:
        ends = stress(node, 100, 3, 250)
        assert {"exit", "cancelled", "trap"} <= set(ends)
        until_none_goes_on(handlers)
        assert node.stats()["live"] == 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 21_000, 1000))
def test_every_guest_ends_once_with_many_seeds(seed: int):
    handlers = Handlers(seed)
    with executor(workers=2, guests_max=200, handlers=handlers.all()) as node:
        stress(node, seed, 3, 1500)
        until_none_goes_on(handlers)


def test_loops_end_under_their_guests():
    """Each serves for a while and is closed with calls under way; a thread serves what follows."""
    for number in range(12):
        with executor(workers=2) as node:
            with asyncio.Runner(loop_factory=LOOPS[number % 2]) as runner:
                started = runner.run(_serve_a_little(node, number))
            for kind, run in started:
                if kind in ("loops", "pause", "pauses"):
                    run.cancel()
                check(kind, run)


async def _serve_a_little(node: Executor, seed: int) -> list[tuple[str, Run]]:
    rng = random.Random(seed)
    node.serve(Handlers(seed).all())
    started = [start(rng, node) for _ in range(60)]
    for kind, run in started[:20]:
        if kind in ("loops", "pause", "pauses"):
            run.cancel()
        await run
    return started[20:]


def test_two_loops_serve_two_executors_at_once():
    results: list[Counter[str]] = []

    def work(number: int) -> None:
        async def many(node: Executor) -> Counter[str]:
            rng, handlers = random.Random(number), Handlers(number)
            node.serve(handlers.all())
            ends: Counter[str] = Counter()
            for _ in range(5):
                started = [start(rng, node) for _ in range(40)]
                for kind, run in started:
                    if kind in ("loops", "pause", "pauses"):
                        run.cancel()
                    await run
                    ends[check(kind, run)] += 1
            while handlers.going_on:
                await asyncio.sleep(0)
            return ends

        with executor(workers=2) as node, asyncio.Runner(loop_factory=LOOPS[number]) as runner:
            results.append(runner.run(many(node)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(ends.values()) for ends in results] == [200, 200]


def test_ten_thousand_sends_with_three_tools_each_leave_nothing():
    said: list[Any] = []
    handler = sending(b"one", b"two", b"three", said=said)
    with executor(workers=2, handlers={OPS["send"]: handler}) as node:

        def many(guests: int, sends: int) -> None:
            said.clear()
            args = ("tools", "same", str(sends))
            runs = [node.start(tools_guest(), args=args) for _ in range(guests)]
            assert {ended(run).exit_code for run in runs} == {0}
            assert len(said) == guests * sends * 3
            assert Counter(said) == {(0, t): guests * sends for t in ("one", "two", "three")}

        many(50, 20)
        many(50, 200)  # warms up: as much as is measured
        gc.collect()
        before, resident = held_at_rest(), resident_kib()
        many(50, 200)
        gc.collect()
        assert held_again(before) == before
        assert resident_kib() < resident + 4096


def test_a_hundred_guests_wait_inside_eight_sends_each():
    async def send(call: Call) -> int:
        function, arena = call.args
        await asyncio.sleep(0)
        await call.tool(function, b"", (arena, 1024), 100)
        return 7

    with executor(workers=2, handlers={OPS["send"]: send}) as node:
        runs = [node.start(tools_guest(), args=("tools", "nests")) for _ in range(100)]
        assert {ended(run).exit_code for run in runs} == {0}
        assert {run.output for run in runs} == {b"7\n"}

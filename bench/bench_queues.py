"""The queues against std::priority_queue, heapq, deques and asyncio's own, on one vCPU.

Rule: a step is one pop and one push at a constant number of elements; every contender does the
same steps with the same priorities.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import shutil
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from spear._core.queues import DueQueue, RunQueue

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record
from tests.reference import queues as reference

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "bench" / "native"
BATCH = 64
SCALE = (1_000, 10_000, 100_000, 1_000_000)


@pytest.fixture(autouse=True)
def _one_vcpu() -> Iterator[None]:
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    yield
    os.sched_setaffinity(0, cpus)


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], float]:
    """M/s of std::priority_queue at a number of elements."""
    compiler = shutil.which("g++") or pytest.skip("no g++ for the C++ floor")
    program = tmp_path_factory.mktemp("native") / "priority_queue"
    subprocess.run([compiler, "-O3", "-o", program, NATIVE / "priority_queue.cpp"], check=True)

    def run(elements: int) -> float:
        command = [program, str(elements), "1000000"]
        return float(subprocess.run(command, check=True, capture_output=True).stdout)

    return run


@pytest.fixture(scope="module")
def loop(cython_module: Callable[[str], ModuleType]) -> ModuleType:
    return cython_module("queue_loop")


def rate(step: Callable[[int], None], steps: int, handles: int) -> float:
    """M/s of handles popped and pushed."""
    start = time.perf_counter()
    for index in range(steps):
        step(index)
    return steps * handles / (time.perf_counter() - start) / 1e6


def filled(elements: int) -> RunQueue:
    queue = RunQueue(elements)
    for priority in range(256):
        queue.push_many(range(priority, elements, 256), priority * 37 & 255)
    return queue


def spear_step(elements: int) -> Callable[[int], None]:
    queue = filled(elements)
    push_many, pop_many = queue.push_many, queue.pop_many
    return lambda index: push_many(pop_many(BATCH), index * 37 & 255)


def heapq_step(elements: int) -> Callable[[int], None]:
    heap = [(index * 37 & 255, index, index) for index in range(elements)]
    heapq.heapify(heap)
    sequence = elements

    def step(index: int) -> None:
        nonlocal sequence
        priority = index * 37 & 255
        handles = [heapq.heappop(heap)[2] for _ in range(BATCH)]
        for handle in handles:
            sequence += 1
            heapq.heappush(heap, (priority, sequence, handle))

    return step


def deques_step(elements: int) -> Callable[[int], None]:
    """The best plain Python: a deque a priority and a set bit for each that is in use."""
    levels: list[deque[int]] = [deque() for _ in range(256)]
    for index in range(elements):
        levels[index * 37 & 255].append(index)
    occupied = sum(1 << level for level in range(256) if levels[level])

    def step(index: int) -> None:
        nonlocal occupied
        handles = []
        while len(handles) < BATCH:
            level = (occupied & -occupied).bit_length() - 1
            waiting = levels[level]
            while waiting and len(handles) < BATCH:
                handles.append(waiting.popleft())
            if not waiting:
                occupied &= occupied - 1
        levels[index * 37 & 255].extend(handles)
        occupied |= 1 << (index * 37 & 255)

    return step


def asyncio_step(elements: int) -> Callable[[int], None]:
    queue: asyncio.PriorityQueue[tuple[int, int, int]] = asyncio.PriorityQueue()
    for index in range(elements):
        queue.put_nowait((index * 37 & 255, index, index))
    sequence = elements

    def step(index: int) -> None:
        nonlocal sequence
        handles = [queue.get_nowait()[2] for _ in range(BATCH)]
        for handle in handles:
            sequence += 1
            queue.put_nowait((index * 37 & 255, sequence, handle))

    return step


def test_run_queue_from_python_in_batches(benchmark):
    steps = {
        "spear": (spear_step, 20_000),
        "heapq": (heapq_step, 1_000),
        "deque buckets": (deques_step, 5_000),
        "asyncio.PriorityQueue": (asyncio_step, 500),
    }
    contenders = {
        name: partial(rate, make(100_000), count, BATCH) for name, (make, count) in steps.items()
    }
    values = interleaved(benchmark, contenders)
    record(
        "run queue at 1e5, from Python, batches of 64",
        values.pop("spear"),
        "M/s",
        values,
        {"heapq": (">=", 4.0)},
    )


def native_rate(loop: ModuleType, queue: RunQueue, count: int, batch: int) -> float:
    start = time.perf_counter()
    loop.pop_and_push(queue, count, batch)
    return count / (time.perf_counter() - start) / 1e6


@pytest.mark.parametrize("batch", [1, BATCH])
def test_run_queue_natively(benchmark, loop, floor, batch):
    queue = RunQueue(100_000)
    loop.fill(queue, 100_000)
    values = interleaved(
        benchmark,
        {
            "spear": lambda: native_rate(loop, queue, 5_000_000, batch),
            "std::priority_queue": lambda: floor(100_000),
        },
    )
    record(
        f"run queue at 1e5, native, with its lock, batches of {batch}",
        values.pop("spear"),
        "M/s",
        values,
        {"std::priority_queue": (">=", 0.4)},
        note="one thread, no contention; the floor has no lock",
    )


def test_run_queue_from_1e3_to_1e6(benchmark, loop):
    queues = {elements: filled(elements) for elements in SCALE}
    contenders = {
        f"at {elements:.0e}": partial(native_rate, loop, queues[elements], 5_000_000, 1)
        for elements in reversed(SCALE)
    }
    values = interleaved(benchmark, contenders)
    record(
        "run queue at 1e6, native, one by one",
        values.pop("at 1e+06"),
        "M/s",
        values,
        {"at 1e+03": (">=", 0.5)},
    )


def test_run_queue_from_1e3_to_1e6_from_python(benchmark):
    contenders = {
        f"at {elements:.0e}": partial(rate, spear_step(elements), 20_000, BATCH)
        for elements in reversed(SCALE)
    }
    values = interleaved(benchmark, contenders)
    record(
        "run queue at 1e6, from Python, batches of 64",
        values.pop("at 1e+06"),
        "M/s",
        values,
        {"at 1e+03": (">=", 0.5)},
    )


def due_step(queue: DueQueue | reference.DueQueue, elements: int) -> Callable[[int], None]:
    """Pop the 64 earliest, push 64 later ones."""
    rng = random.Random(1)
    spread = array("q", (rng.randrange(10**9) for _ in range(4096 + BATCH)))
    queue.push_many(range(elements), [spread[index % 4096] for index in range(elements)])

    def step(index: int) -> None:
        handles = queue.pop_due(2**62, BATCH)
        at = index * BATCH % 4096
        base = index * BATCH * 10_000
        queue.push_many(handles, array("q", [base + d for d in spread[at : at + BATCH]]))

    return step


def test_due_queue_from_python_in_batches(benchmark):
    values = interleaved(
        benchmark,
        {
            "spear": partial(rate, due_step(DueQueue(100_000), 100_000), 5_000, BATCH),
            "reference (heapq)": partial(
                rate, due_step(reference.DueQueue(100_000), 100_000), 1_000, BATCH
            ),
        },
    )
    record(
        "due queue at 1e5, pop and push, from Python, batches of 64",
        values.pop("spear"),
        "M/s",
        values,
        {"reference (heapq)": (">=", 2.0)},
    )


def test_due_queue_arm_and_cancel(benchmark, loop):
    """What timeouts do: armed for every call, nearly always cancelled."""
    live = 10_000
    ours, theirs = DueQueue(live + 1), reference.DueQueue(live + 1)
    at = {"spear": live, "reference (heapq)": live}

    def native() -> float:
        start = time.perf_counter()
        loop.arm_and_cancel(ours, at["spear"], 2_000_000, live)
        at["spear"] += 2_000_000
        return 2.0 / (time.perf_counter() - start)

    def python(name: str, queue: DueQueue | reference.DueQueue, count: int) -> float:
        first = at[name]
        start = time.perf_counter()
        for handle in range(first, first + count):
            queue.cancel(handle - live)
            queue.push_many((handle,), (handle * 1000,))
        at[name] = first + count
        return count / (time.perf_counter() - start) / 1e6

    values = interleaved(
        benchmark,
        {
            "spear": native,
            "reference (heapq)": lambda: python("reference (heapq)", theirs, 50_000),
        },
    )
    record(
        "due queue at 1e4, arm and cancel, native",
        values.pop("spear"),
        "M/s",
        values,
        {"reference (heapq)": (">=", 2.0)},
    )

"""An agent that calls another one, beside the same task called by the node's own caller.

Rule: both in one process, on one vCPU, with a node in memory; the callee is the same: a small
guest, compiled before and fresh for each call, or a function of a reactor that is kept warm. A call
between agents may take three times a local async one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spear
from bench.report import record
from spear.records.execution import Invocation
from spear.records.node import Node
from spear.records.task import Pool, TaskSpec

GUESTS = Path(__file__).resolve().parents[1] / "tests/guests"
CALLS, ROUNDS = 1000, 5


@pytest.fixture
def one_vcpu():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


class Callee(NamedTuple):
    """`asked`: the task as caller.c puts it into its request, and an input that is its output."""

    task: str
    asked: str
    input: str = ""
    function: str = ""


FRESH = Callee("echo", "echo", "x")
WARM = Callee("warm", 'warm","function":"ready', function="ready")


async def _local(node: Node, callee: Callee) -> float:
    """us a call."""
    input, call = callee.input.encode(), Invocation(function=callee.function)
    start = time.perf_counter()
    for _ in range(CALLS):
        assert (await node.invoke(callee.task, input, call)).completed
    return (time.perf_counter() - start) / CALLS * 1e6


async def _between(node: Node, callee: Callee) -> float:
    many = f"n|{CALLS}|{callee.asked}|{callee.input}"
    call = Invocation(args=(many,), timeout_ns=300 * 10**9)
    start = time.perf_counter()
    execution = await node.invoke("parent", b"", call)
    took = time.perf_counter() - start
    assert execution.output == b"%d\n" % CALLS
    return took / CALLS * 1e6


async def _register(node: Node) -> None:
    caller = await node.put_artifact((GUESTS / "agents/caller.wasm").read_bytes())
    reactor = await node.put_artifact((GUESTS / "reactors/reactor.wasm").read_bytes())
    allowed = {"tasks.allowed": "echo, warm"}
    for spec in (
        TaskSpec(name="echo", artifact=caller.digest, args=("i",)),
        TaskSpec(name="warm", artifact=reactor.digest, pool=Pool(isolation="shared")),
        TaskSpec(name="parent", artifact=caller.digest, config=allowed),
    ):
        await node.register(spec)


async def _measure(callee: Callee) -> tuple[list[float], list[float]]:
    async with spear.Spearlet.open() as node:
        await _register(node)
        await _local(node, callee)
        await _between(node, callee)
        rounds = [(await _local(node, callee), await _between(node, callee)) for _ in range(ROUNDS)]
    return [local for local, _ in rounds], [between for _, between in rounds]


@pytest.mark.parametrize(
    ("callee", "named", "note"),
    [
        (FRESH, "fresh small guest", "both guests of one module of 29 KB, compiled before"),
        (WARM, "warm reactor's function", "an instance that is kept; a function that returns 1"),
    ],
)
def test_a_call_between_agents_beside_a_local_one(
    one_vcpu: None, callee: Callee, named: str, note: str
) -> None:
    local, between = asyncio.run(_measure(callee))
    assert record(
        f"task_invoke of a {named}, in process, one vCPU",
        between,
        "us",
        {"a local async invoke": local},
        {"a local async invoke": ("<=", 3.0)},
        f"{note}; in memory; the caller parks meanwhile",
    )

"""An agent that calls another one, beside the same task called by the node's own caller.

Rule: both in one process, on one vCPU, with a node in memory; the callee is the same small guest,
warm in memory, fresh for each call. A call between agents may take three times a local async one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spear
from bench.report import record
from spear.records.execution import Invocation
from spear.records.node import Node
from spear.records.task import TaskSpec

GUEST = Path(__file__).resolve().parents[1] / "tests/guests/agents/caller.wasm"
CALLS, ROUNDS = 1000, 5


@pytest.fixture
def one_vcpu():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


async def _local(node: Node) -> float:
    """us a call."""
    start = time.perf_counter()
    for _ in range(CALLS):
        assert (await node.invoke("echo", b"x")).completed
    return (time.perf_counter() - start) / CALLS * 1e6


async def _between(node: Node) -> float:
    call = Invocation(args=(f"n|{CALLS}|echo|x",), timeout_ns=300 * 10**9)
    start = time.perf_counter()
    execution = await node.invoke("parent", b"", call)
    took = time.perf_counter() - start
    assert execution.output == b"%d\n" % CALLS
    return took / CALLS * 1e6


async def _measure() -> tuple[list[float], list[float]]:
    async with spear.Spearlet.open() as node:
        artifact = await node.put_artifact(GUEST.read_bytes())
        await node.register(TaskSpec(name="echo", artifact=artifact.digest, args=("i",)))
        await node.register(
            TaskSpec(name="parent", artifact=artifact.digest, config={"tasks.allowed": "echo"})
        )
        await _local(node)
        await _between(node)
        rounds = [(await _local(node), await _between(node)) for _ in range(ROUNDS)]
    return [local for local, _ in rounds], [between for _, between in rounds]


def test_a_call_between_agents_beside_a_local_one(one_vcpu: None) -> None:
    local, between = asyncio.run(_measure())
    assert record(
        "task_invoke of a warm small guest, in process, one vCPU",
        between,
        "us",
        {"a local async invoke": local},
        {"a local async invoke": ("<=", 3.0)},
        "both fresh guests of one module of 29 KB, in memory; the caller parks meanwhile",
    )

"""What an agent's talk with a model costs beside the HTTP under it: a chat, a chunk of a stream.

Rule: real guests on a whole node; the model is model_server.py in a process of its own, the same
for all. A chat is what a guest does from create to close, by the guest's clock, and the peer is the
same request by the same HTTP client, bare; both on one vCPU, the median. A chunk is the CPU time of
the whole process, kernel included, from the moment when all agents wait for their streams' first
byte until the last one has ended, over the chunks that guests have read. Of 40,000 chunks a second
one vCPU has 25 us for each: where a chunk that comes alone costs more, chunks gather in the
sockets, are read together, and the figure stays near 25 whatever else is gained. Memory is what a
process of its own (waiting.py) grows by when so many agents wait in a send for an answer that never
comes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec
import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spear
from bench.model_servers import ModelServer, model_server
from bench.report import interleaved, record
from spear.clock import Clock
from spear.hostcalls.llm.http.client import HttpClient

GUEST = Path(__file__).resolve().parents[1] / "tests/guests/chat/measured.wasm"
CHATS, AGENTS = 1000, 1000
OVERHEAD_US, CHUNK_US = 200, 20
BODY = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hello"}]})


@contextmanager
def one_vcpu() -> Iterator[None]:
    """This thread and those that it starts; not the model's server, which is there before."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def chats_of_a_guest(server: ModelServer) -> float:
    """us each."""
    async with spear.Spearlet(server.settings) as node:
        program = await node.load(GUEST)
        done = await node.run(program, args=("0", str(CHATS)))
        times = [int(line) for line in done.output.split()]
        assert len(times) == CHATS, done
        return median(times) / 1e3


async def bare_requests(server: ModelServer) -> float:
    """us each."""
    http, times = HttpClient(server.url, Clock(), {}), []
    for _ in range(CHATS):
        began_ns = time.perf_counter_ns()
        async with http.request("POST", "/chat/completions", BODY) as exchange:
            assert await exchange.body()
        times.append(time.perf_counter_ns() - began_ns)
    await http.close()
    return median(times) / 1e3


async def chunks_of_agents(server: ModelServer, chunks: int) -> float:
    """us each."""
    async with spear.Spearlet({**server.settings, "executor.max_parked": AGENTS}) as node:
        program = await node.load(GUEST)
        runs = [await node.start(program, args=("1",)) for _ in range(AGENTS)]
        assert await asyncio.to_thread(server.line) == "ready"
        cpu_ns = time.process_time_ns()
        server.release()
        ended = [await run for run in runs]
        cpu_ns = time.process_time_ns() - cpu_ns
    assert [int(one.output) for one in ended] == [chunks] * AGENTS
    return cpu_ns / (chunks * AGENTS) / 1e3


@pytest.mark.benchmark(group="models")
def test_a_chat_of_an_agent(benchmark: object) -> None:
    with one_vcpu(), model_server(0, 0, 1) as server:
        figures = interleaved(
            benchmark,
            {
                "spear": lambda: uvloop.run(chats_of_a_guest(server)),
                "bare": lambda: uvloop.run(bare_requests(server)),
            },
        )
    ours, bare = figures["spear"], figures["bare"]
    over = [a - b for a, b in zip(ours, bare, strict=True)]
    record("a guest's chat, from create to close", ours, "us", {"the HTTP request, bare": bare}, {},
           "p50, by the guest's clock; seven hostcalls, four of them answered by Python; all on "
           "one vCPU, the server too")  # fmt: skip
    assert record(
        "overhead of a guest's chat over its HTTP request", over, "us",
        {"limit": [float(OVERHEAD_US)] * len(over)}, {"limit": ("<=", 1.0)},
        "the two of the row above, of the same round",
    )  # fmt: skip


@pytest.mark.benchmark(group="models")
@pytest.mark.parametrize(("a_second", "chunks"), [(40, 160), (10, 40)])
def test_a_chunk_for_a_thousand_agents(benchmark: object, a_second: int, chunks: int) -> None:
    with model_server(chunks, 1000 // a_second, AGENTS) as server, one_vcpu():
        figures = interleaved(
            benchmark, {"spear": lambda: uvloop.run(chunks_of_agents(server, chunks))}
        )["spear"]
    fast = a_second == 40
    reached = record(
        f"CPU of a chunk, {AGENTS:,} agents that stream, {a_second} chunks a second each",
        figures, "us",
        {"limit": [float(CHUNK_US)] * len(figures)}, {"limit": ("<=", 1.0)} if fast else {},
        f"{chunks} chunks an agent; the whole process on one vCPU, kernel, guests and their ends "
        "included; " + ("chunks that came together are read together" if fast else
                        "nearly every chunk is a read of its own; guests are woken together, "
                        "every 2 ms"),
    )  # fmt: skip
    assert reached


def waiting_kib(what: str, *more: str) -> float:
    """Each of AGENTS."""
    command = [sys.executable, Path(__file__).parent / "waiting.py", what, str(AGENTS), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    held = [line["resident_kib"] for line in lines if line["what"] in ("one waits", "all wait")]
    return (held[1] - held[0]) / AGENTS


@pytest.mark.benchmark(group="models")
@pytest.mark.parametrize("shape", ["small", "large"])
def test_the_memory_of_an_agent_that_waits_for_a_model(benchmark: object, shape: str) -> None:
    guest = f"waiter_{shape}"
    figures = interleaved(
        benchmark,
        {
            "spear": lambda: waiting_kib(guest),
            "parked": lambda: waiting_kib(guest, "x"),
            "http": lambda: waiting_kib("http"),
        },
    )
    record(
        f"memory of an agent that waits for a model, {shape} guest",
        figures.pop("spear"), "KiB",
        {"the same guest, parked by a sleep": figures["parked"],
         "HTTP's share: the request alone, without a guest": figures["http"]},
        {}, f"{AGENTS:,} agents on one node; the rest is the execution's task, session and handles",
    )  # fmt: skip

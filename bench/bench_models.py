"""What a model's backend costs beside the HTTP call under it: a chat, and a chunk of a stream.

Rule: the server is a fake in a process of its own, the same for all. A chat's figure is the median
of its time; a chunk's the process's CPU time, kernel included, between the moment when all streams
have begun and their end, over the chunks in between. The peer is aiohttp that reads the same bytes
and looks into none of them.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import aiohttp
import msgspec
import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.report import interleaved, record
from spear.clock import Clock
from spear.hostcalls.llm.backends.interface import Backend
from spear.hostcalls.llm.backends.make import make_backend
from spear.hostcalls.llm.request import ChatRequest
from spear.records.models import LOCAL, OPENAI, BackendSpec

ROOT = Path(__file__).resolve().parents[1]
CALLS, STREAMS = 300, 1000
REQUEST = ChatRequest(messages=[{"role": "user", "content": "hello"}])
DOCUMENT = {"model": "m", "messages": REQUEST.messages}


@contextmanager
def fake(*arguments: str) -> Iterator[str]:
    """Its base URL."""
    command = [sys.executable, "-m", "tests.fakes", "openai", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def backend_at(url: str) -> Backend:
    spec = BackendSpec(name="bench", kind=OPENAI, hosting=LOCAL, base_url=url)
    return make_backend(spec, Clock())


def session_without_limits() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    )


async def each_chat_us(chat: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        await chat()
        times.append(time.perf_counter_ns() - began)
    return median(times) / 1e3


async def chats_of_ours(url: str) -> float:
    backend = backend_at(url)
    try:
        return await each_chat_us(lambda: backend.chat(REQUEST, "m"))
    finally:
        await backend.close()


async def chats_of_aiohttp(url: str) -> float:
    body = msgspec.json.encode(DOCUMENT)
    async with session_without_limits() as session:

        async def chat() -> bytes:
            async with session.post(f"{url}/chat/completions", data=body) as response:
                return await response.read()

        return await each_chat_us(chat)


async def each_chunk_us(stream: Callable[[Callable[[object], None]], Awaitable[object]]) -> float:
    """`stream` hands each piece to the function that it gets."""
    begun = chunks = cpu_ns = 0

    async def read() -> None:
        first = True

        def take(_: object) -> None:
            nonlocal begun, chunks, cpu_ns, first
            chunks += begun == STREAMS
            if first:
                first, begun = False, begun + 1
                cpu_ns = time.process_time_ns()

        await stream(take)

    await asyncio.gather(*(read() for _ in range(STREAMS)))
    assert chunks > STREAMS
    return (time.process_time_ns() - cpu_ns) / chunks / 1e3


async def chunks_of_ours(url: str) -> float:
    backend = backend_at(url)

    try:
        return await each_chunk_us(lambda take: backend.stream(REQUEST, "m", take))
    finally:
        await backend.close()


async def chunks_of_aiohttp(url: str) -> float:
    body = msgspec.json.encode({**DOCUMENT, "stream": True})
    async with session_without_limits() as session:

        async def pieces(take: Callable[[object], None]) -> None:
            async with session.post(f"{url}/chat/completions", data=body) as response:
                while piece := await response.content.readany():
                    take(piece)

        return await each_chunk_us(pieces)


@pytest.mark.benchmark(group="models")
def test_a_chat(benchmark: object) -> None:
    with fake() as url:
        figures = interleaved(
            benchmark,
            {
                "spear": lambda: uvloop.run(chats_of_ours(url)),
                "aiohttp": lambda: uvloop.run(chats_of_aiohttp(url)),
            },
        )
    ours, bare = figures["spear"], figures["aiohttp"]
    note = "without a guest; the figure of a guest's chat stands above"
    record("chat through a backend", ours, "us", {"aiohttp, the call alone": bare}, {}, note)


@pytest.mark.benchmark(group="models")
def test_a_chunk_of_a_thousand_streams(benchmark: object) -> None:
    with fake("--repeat", "15", "--delay-ms", "100") as url:
        figures = interleaved(
            benchmark,
            {
                "spear": lambda: uvloop.run(chunks_of_ours(url)),
                "aiohttp": lambda: uvloop.run(chunks_of_aiohttp(url)),
            },
        )
    ours = figures["spear"]
    note = f"{STREAMS} streams at once, CPU a chunk, SSE and JSON; without guests"
    peers = {"aiohttp, bytes alone": figures["aiohttp"]}
    record("streamed chunk through a backend", ours, "us", peers, {}, note)

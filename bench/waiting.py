"""What agents that wait for a model hold, measured in this process of its own.

    python bench/waiting.py GUEST COUNT     guests of tests/guests/chat that wait in a send
    python bench/waiting.py GUEST COUNT x   the same guests, which wait for nothing
    python bench/waiting.py http COUNT      the HTTP requests alone, without guests

Rule: one of them is there before, so that what is loaded once does not count; then COUNT are, and
what the process grew by is printed, in KiB each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spear
from bench.model_servers import ModelServer, model_server
from spear.clock import Clock
from spear.hostcalls.llm.http.client import HttpClient

GUESTS = Path(__file__).resolve().parents[1] / "tests/guests/chat"
BODY = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
SETTLE_S = 0.5  # what is let go late, and guests on their way to rest


async def resident_kib() -> int:
    await asyncio.sleep(SETTLE_S)
    gc.collect()
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    ]
    return int(line.split()[1])


async def until_asked(server: ModelServer, count: int) -> None:
    while await asyncio.to_thread(server.line) != f"asked {count}":
        pass


async def of_guests(server: ModelServer, name: str, count: int, args: tuple[str, ...]) -> float:
    settings = {**server.settings, "executor.max_parked": count + 1}
    async with spear.Spearlet(settings) as node:
        program = await node.load(GUESTS / f"{name}.wasm")
        runs = [await node.start(program, args=args)]
        if not args:
            await until_asked(server, 1)
        before = await resident_kib()
        runs += [await node.start(program, args=args) for _ in range(count)]
        if not args:
            await until_asked(server, count + 1)
        grown = await resident_kib() - before
        for run in runs:
            await run.cancel()
        return grown / count


async def of_http(server: ModelServer, count: int) -> float:
    http = HttpClient(server.url, Clock(), {})

    async def ask() -> None:
        async with http.request("POST", "/chat/completions", BODY):
            pass

    tasks = [asyncio.create_task(ask())]
    await until_asked(server, 1)
    before = await resident_kib()
    tasks += [asyncio.create_task(ask()) for _ in range(count)]
    await until_asked(server, count + 1)
    grown = await resident_kib() - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await http.close()
    return grown / count


def main() -> None:
    what, count, *args = sys.argv[1:]
    with model_server(0, 0, 0) as server:
        if what == "http":
            each = uvloop.run(of_http(server, int(count)))
        else:
            each = uvloop.run(of_guests(server, what, int(count), tuple(args)))
    print(json.dumps({"kib_each": each}))


if __name__ == "__main__":
    main()

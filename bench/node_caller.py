"""A client of a node's socket, for `bench_node.py`: a process of its own, as a user's is.

    python node_caller.py one ADDRESS COUNT     prints the median of single invokes, in us
    python node_caller.py many ADDRESS COUNT    prints thousand invokes a second, 64 in flight

The task is `noop`; each answer is looked at. A tenth of the calls go ahead, unmeasured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median

import uvloop

from spear.client.client import Client

IN_FLIGHT = 64


async def invoke(client: Client) -> None:
    execution = await client.invoke("noop")
    assert execution.completed, execution


async def one(client: Client, count: int) -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        await invoke(client)
        times.append(time.perf_counter_ns() - began)
    return median(times) / 1e3


async def many(client: Client, count: int) -> float:
    async def caller() -> None:
        for _ in range(count // IN_FLIGHT):
            await invoke(client)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - began) / 1e3


async def main(how: str, address: str, count: int) -> None:
    measure = {"one": one, "many": many}[how]
    async with Client(address) as client:
        await measure(client, max(count // 10, IN_FLIGHT))
        print(await measure(client, count))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

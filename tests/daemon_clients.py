"""Clients of a daemon in a process that its parent kills or stops.

    python daemon_clients.py SOCKET FRAMES GRPC TOKEN vanish ID
    python daemon_clients.py SOCKET FRAMES GRPC TOKEN read RESULT LOG READERS

The rule: the same on each of the three doors. `vanish` calls, submits and waits for ID, and says
for each door the ids of what it invoked and submitted; it goes on for ever. `read` takes one
message of each stream and says `reading`; what it is told on stdin lets it take the rest: then it
says for each door the lengths of the results and how many lines the log had.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from spear.client.client import Client
from spear.client.frame_caller import FrameCaller
from spear.errors import NotFound
from spear.records.execution import Invocation


class FramesClient(Client):
    """By frames over TCP, as programs in other languages may speak them."""

    def __init__(self, address: str, token: str) -> None:
        super().__init__(address)
        self._frames = address, token

    async def _dial(self) -> FrameCaller:
        return await FrameCaller.connect(*self._frames)


def say(*words: object) -> None:
    print(*words, flush=True)


async def running(client: Client, id: str) -> None:
    while True:
        try:
            if (await client.execution(id)).status == "running":
                return
        except NotFound:
            continue


async def vanish(clients: list[Client], id: str) -> None:
    calls: list[asyncio.Future[object]] = []
    for client in clients:
        invoked = str(uuid.uuid4())
        call = Invocation(execution_id=invoked)
        calls.append(asyncio.ensure_future(client.invoke("sleeper", b"", call)))
        accepted = await client.submit("sleeper")
        calls.append(asyncio.ensure_future(client.wait(id)))
        await running(client, invoked)
        await running(client, accepted.id)
        say(invoked, accepted.id)
    await asyncio.gather(*calls)


async def rest(stream: AsyncIterator[Any]) -> int:
    return sum([len(part) async for part in stream])


async def watch(client: Client) -> None:
    async for _ in client.watch():
        pass


async def read(clients: list[Client], result: str, log: str, readers: int) -> None:
    results: list[list[AsyncGenerator[bytes, None]]] = []
    logs: list[AsyncGenerator[list[Any], None]] = []
    taken: dict[object, int] = {}
    watches: list[asyncio.Future[Any]] = []
    for client in clients:
        results.append([client.read_result(result) for _ in range(readers)])
        logs.append(client.logs(log, follow=True))
        for stream in (*results[-1], logs[-1]):
            taken[stream] = len(await anext(stream))
        watches.append(asyncio.ensure_future(watch(client)))
    say("reading")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for own, lines in zip(results, logs, strict=True):
        lengths = [taken[stream] + await rest(stream) for stream in own]
        say(",".join(map(str, lengths)), taken[lines] + await rest(lines))


async def main(socket: str, frames: str, grpc: str, token: str, what: str, *words: str) -> None:
    clients = [Client(socket), FramesClient(frames, token), Client(grpc, token=token)]
    if what == "vanish":
        await vanish(clients, *words)
    else:
        await read(clients, words[0], words[1], int(words[2]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

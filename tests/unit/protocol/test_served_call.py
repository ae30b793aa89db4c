"""A call that is a task: who waits for its end hears of it, whoever else gives up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from spear.protocol.served_call import ServedCall

HANG_S = 30.0


class Connection:
    """Stands for the connection: keeps what is answered."""

    identity = None

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.answers: list[object] = []

    def answer(self, call: ServedCall, result: object, error: object, expired_ms: int) -> None:
        self.answers.append(result)


async def test_who_gives_up_waiting_takes_nobody_elses_wait() -> None:
    connection: Any = Connection()
    request: Any = SimpleNamespace(stream=None, deadline_ms=0)
    call, gate = ServedCall(connection, request), asyncio.Event()

    async def handler() -> bytes:
        await gate.wait()
        return b"done"

    call.run(handler(), connection.loop)
    waits = [asyncio.ensure_future(call.ended()) for _ in range(2)]
    await asyncio.sleep(0)
    waits[0].cancel()
    await asyncio.wait(waits[:1])
    assert not waits[1].done()
    gate.set()
    await asyncio.wait_for(waits[1], HANG_S)
    assert connection.answers == [b"done"]

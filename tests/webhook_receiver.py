"""An HTTP server in this process, for webhooks: it takes, refuses, hangs and drops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web


class Receiver:
    """A server; `answers` are the next ones, then 200. A `hang` is held until `released`."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, bytes]] = []  # key, body
        self.signatures: list[str] = []
        self.released, self.now, self.most = asyncio.Event(), 0, 0
        self.changed = asyncio.Event()

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self.answer)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/hook"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.headers["Idempotency-Key"], await request.read()))
        self.signatures.append(request.headers["Spear-Signature"])
        answer = self.answers.pop(0) if self.answers else 200
        if answer == "hang":
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.set()
            await self.released.wait()
            self.now -= 1
        self.changed.set()
        if answer == "drop":
            assert request.transport is not None
            request.transport.close()
        status = answer if isinstance(answer, int) else 200
        return web.Response(status=status, headers=self.headers)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Looks with each request, and each answer that was held."""
        while not reached():
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.start()
    try:
        yield made
    finally:
        made.released.set()
        await made.runner.cleanup()

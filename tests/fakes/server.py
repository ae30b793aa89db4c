"""A fake's HTTP side: scripted steps, faults, and counts of what clients did.

The rule: what a fake says is bytes that a subclass makes; how they are sent, hung, cut or dropped
is the same for all. Nothing waits for time unless a step says so; `gone` counts requests whose
client left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakSet

import msgspec
from aiohttp import web

from tests.fakes.step import HANG_BEFORE, HANG_WITHIN, Step


class Seen(msgspec.Struct, frozen=True):
    """A POST that came."""

    path: str
    headers: dict[str, str]  # by names in lower case
    document: Any


class Fake:
    """Used as an async context manager. `key`: requests without it get 401, and hear theirs."""

    key_header, key_scheme = "authorization", "Bearer "
    base_path = ""

    def __init__(self, default: Step | None = None, key: str = "") -> None:
        self.default = default or Step()
        self.key = key
        self.requests: list[Seen] = []
        self.looked = 0  # GETs
        self.gone = 0  # requests whose client left before the end
        self.finished = 0  # requests that were answered as far as the step says
        self._steps: deque[Step] = deque()
        self._transports: WeakSet[Any] = WeakSet()
        self._connections = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._runner: web.AppRunner
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base_path}"

    @property
    def connections(self) -> int:
        """Those that ever brought a request."""
        return self._connections

    def script(self, *steps: Step) -> None:
        self._steps.extend(steps)

    async def wait_requests(self, count: int) -> None:
        await self._wait(lambda: len(self.requests) >= count)

    async def wait_gone(self, count: int) -> None:
        await self._wait(lambda: self.gone >= count)

    async def wait_finished(self, count: int) -> None:
        await self._wait(lambda: self.finished >= count)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_routes(self.routes())
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def __aenter__(self) -> Fake:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    # What an API says, made by its subclass.

    stream_type = "text/event-stream"

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def whole(self, step: Step, document: dict[str, Any]) -> Any:
        """The document of an answer in one piece."""
        raise NotImplementedError

    def pieces(self, step: Step, document: dict[str, Any]) -> list[bytes]:
        """The same as a stream."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> Any:
        raise NotImplementedError

    def complaint(self, seen: Seen) -> str:
        """Why the API would refuse this request; empty: it would not."""
        return "" if seen.document.get("model") else "you must provide a model parameter"

    def streams(self, document: dict[str, Any]) -> bool:
        return document.get("stream") is True

    # How it is served.

    async def look(self, request: web.Request) -> web.StreamResponse:
        self._count(request)
        self.looked += 1
        return self._refusal(request) or web.json_response(self.listing(request.path))

    def listing(self, path: str) -> Any:
        return {"data": [], "path": path}

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self.whole, self.pieces)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self.vectors, None)

    def vectors(self, step: Step, document: dict[str, Any]) -> Any:
        raise NotImplementedError

    async def _serve(self, request: web.Request, whole: Any, pieces: Any) -> web.StreamResponse:
        step = self._steps.popleft() if self._steps else self.default
        document = msgspec.json.decode(await request.read())
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.path, headers, document)
        self._count(request)
        self.requests.append(seen)
        self._tell()
        try:
            if step.hang == HANG_BEFORE:
                await asyncio.Event().wait()
            response = self._refusal(request) or await self._answer(
                request, step, seen, whole, pieces
            )
        except (asyncio.CancelledError, ConnectionError):
            self.gone += 1
            self._tell()
            raise
        self.finished += 1
        self._tell()
        return response

    async def _answer(
        self, request: web.Request, step: Step, seen: Seen, whole: Any, pieces: Any
    ) -> web.StreamResponse:
        json = "application/json"
        if step.body is not None:
            return await self._send(request, step, [step.body], json)
        complaint = self.complaint(seen)
        status = 400 if complaint else step.status
        if status != 200:
            error = self.error(status, complaint or step.error or "scripted")
            step = msgspec.structs.replace(step, status=status)
            return await self._send(request, step, [msgspec.json.encode(error)], json)
        if pieces is not None and self.streams(seen.document):
            chunks = pieces(step, seen.document)
            if step.cut:
                chunks = _cut(b"".join(chunks), step.cut)
            return await self._send(request, step, chunks, self.stream_type)
        body = msgspec.json.encode(whole(step, seen.document))
        halves = _cut(body, len(body) // 2 + 1) if step.hang or step.drop else [body]
        return await self._send(request, step, halves, json)

    async def _send(
        self, request: web.Request, step: Step, chunks: list[bytes], content_type: str
    ) -> web.StreamResponse:
        headers = {"Content-Type": step.content_type or content_type, **step.headers}
        if len(chunks) == 1 and not step.hang and not step.drop:
            return web.Response(body=chunks[0], status=step.status, headers=headers)
        response = web.StreamResponse(status=step.status, headers=headers)
        await response.prepare(request)
        for number, chunk in enumerate(chunks):
            if step.hang == HANG_WITHIN and number == (len(chunks) + 1) // 2:
                await asyncio.Event().wait()
            if step.drop and number == (len(chunks) + 1) // 2:
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(chunk)
            if step.delay_ms:
                await asyncio.sleep(step.delay_ms / 1000)
        await response.write_eof()
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get(self.key_header, "")
        if not self.key or given == f"{self.key_scheme}{self.key}":
            return None
        message = f"Incorrect API key provided: {given.removeprefix(self.key_scheme)}"
        return web.json_response(self.error(401, message), status=401)

    def _count(self, request: web.Request) -> None:
        if request.transport is not None and request.transport not in self._transports:
            self._transports.add(request.transport)
            self._connections += 1

    def _tell(self) -> None:
        """Awaits nothing: a client may go at any await, and that is to be counted."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, holds: Any) -> None:
        while not holds():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def numbers_in(text: str) -> list[int]:
    return [
        int(word) for word in text.replace("?", " ").replace(",", " ").split() if word.isdigit()
    ]

"""A server that answers with bytes as they are, for what no HTTP library would send.

The rule: request n on the server gets answer n; one that ends with CLOSE closes the connection
behind its bytes, one that ends with RESET cuts it.
"""

from __future__ import annotations

import asyncio
import re

CLOSE, RESET = b"<close>", b"<reset>"


class RawServer:
    """Used as an async context manager. `requests` are whole: head and body."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = asyncio.Semaphore(0)  # released for every connection that its client closed
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.ended.release()
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
        answer = self._answers.pop(0)
        writer.write(answer.removesuffix(CLOSE).removesuffix(RESET))
        await writer.drain()
        if answer.endswith(RESET):
            writer.transport.abort()
        return not answer.endswith((CLOSE, RESET))

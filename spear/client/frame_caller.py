"""Calls by frames: to a node on the same machine, by its socket.

The rule: one connection for all calls, many at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from spear.errors import SpearError
from spear.protocol.client import FrameChannel


class FrameCaller(FrameChannel):
    """Unary calls are the channel's; streams here are iterators."""

    async def receive(self, path: str, request: bytes) -> AsyncGenerator[bytes, None]:
        async with await self.stream(path, request) as stream:
            async for message in stream:
                yield message

    async def send(self, path: str, requests: AsyncIterator[bytes]) -> bytes:
        """One message is held back until it is known whether another follows."""
        held = await anext(requests)
        following = await anext(requests, None)
        async with await self.stream(path, held, last=following is None) as stream:
            while following is not None:
                held, following = following, await anext(requests, None)
                await stream.send(held, last=following is None)
            answer = await anext(stream, None)
        if answer is None:
            raise SpearError(f"the node ended {path} without an answer")
        return answer

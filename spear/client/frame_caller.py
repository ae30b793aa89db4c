"""Calls by frames: to a node on the same machine, by its socket.

The rule: one connection for all calls, many at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NoReturn

from spear.client.caller import Lost
from spear.errors import SpearError, Unreachable
from spear.protocol.client import FrameChannel


class FrameCaller:
    """Over a connected channel, which it owns."""

    def __init__(self, channel: FrameChannel) -> None:
        self._channel = channel

    @property
    def gone(self) -> bool:
        return self._channel.gone

    async def call(self, path: str, request: bytes, deadline_ms: int) -> bytes:
        try:
            return await self._channel.call(path, request, deadline_ms)
        except Unreachable as error:
            self._raise(error)

    async def receive(self, path: str, request: bytes) -> AsyncGenerator[bytes, None]:
        try:
            async with await self._channel.stream(path, request) as stream:
                async for message in stream:
                    yield message
        except Unreachable as error:
            self._raise(error)

    async def send(self, path: str, requests: AsyncIterator[bytes]) -> bytes:
        """One message is held back until it is known whether another follows."""
        held = await anext(requests)
        following = await anext(requests, None)
        try:
            async with await self._channel.stream(path, held, last=following is None) as stream:
                while following is not None:
                    held, following = following, await anext(requests, None)
                    await stream.send(held, last=following is None)
                answer = await anext(stream, None)
        except Unreachable as error:
            self._raise(error)
        if answer is None:
            raise SpearError(f"the node ended {path} without an answer")
        return answer

    def _raise(self, error: Unreachable) -> NoReturn:
        """A node says of itself that something is not reachable; a lost connection is another
        thing."""
        if self._channel.gone:
            raise Lost(str(error)) from error
        raise error

    async def close(self) -> None:
        await self._channel.close()

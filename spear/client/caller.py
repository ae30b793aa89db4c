"""How a client's calls travel: the interface of its two ways, frames and gRPC.

The rule: messages are bytes here, paths are those of gRPC. Errors are of spear.errors; Lost says
that the connection broke with a call under way, so nobody knows whether it was done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from spear.protocol.client import Lost

__all__ = ["Caller", "Lost"]


class Caller(Protocol):
    """`deadline_ms` 0: none. A call that is cancelled here is cancelled at the node."""

    @property
    def gone(self) -> bool:
        """Whether it is known that no call can be made any more."""

    async def call(self, path: str, request: bytes, deadline_ms: int) -> bytes: ...
    def receive(self, path: str, request: bytes) -> AsyncIterator[bytes]:
        """An async generator of the stream's messages; closing it gives the stream up."""

    async def send(self, path: str, requests: AsyncIterator[bytes]) -> bytes:
        """Sends a stream of one message or more and gives the answer."""

    async def close(self) -> None: ...

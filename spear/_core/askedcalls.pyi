import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from spear._core.exchange import Exchange

class Channel(Protocol):
    def ask(self, path: str, request: bytes, deadline_ms: int) -> Coroutine[Any, Any, bytes]: ...
    def give_up(self, request_id: int) -> None: ...
    def flush(self) -> None: ...

class AskedCalls:
    window: int
    def __init__(
        self,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        waiting: deque[asyncio.Future[None]],
        channel: Channel,
    ) -> None: ...
    @property
    def answers(self) -> dict[int, asyncio.Future[bytes]]: ...
    def call(
        self, path: str, request: bytes, deadline_ms: int = 0
    ) -> Coroutine[Any, Any, bytes]: ...
    def take(self, frames: list[bytes], index: int) -> int: ...

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from spear._core.exchange import Exchange
from spear._core.protofields import Fields

class Route:
    def __init__(
        self,
        path: str,
        handler: Callable[[Any], Awaitable[Any]],
        read: Callable[[bytes], Any],
        write: Callable[[Any], bytes],
        reads: Fields | None = None,
        writes: Fields | None = None,
        plain_bytes_max: int = 0,
    ) -> None: ...
    @property
    def path(self) -> str: ...

class UnderWay(Protocol):
    def cancel(self) -> None: ...
    def ended(self) -> Awaitable[None]: ...

class Connection(Protocol):
    def answer_failed(
        self, path: str, request_id: int, error: BaseException, expired_ms: int
    ) -> None: ...
    def eased(self) -> None: ...
    def flush(self) -> None: ...

class ServedCalls:
    window: int
    size_max: int
    full: bool
    draining: bool
    def __init__(
        self,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        routes: Mapping[str, Route],
        lasting: set[UnderWay],
        window: int,
        size_max: int,
    ) -> None: ...
    @property
    def under_way(self) -> dict[int, UnderWay]: ...
    @property
    def size(self) -> int: ...
    def add(self, request_id: int, call: UnderWay, size: int) -> None: ...
    def remove(self, request_id: int, call: UnderWay, size: int) -> None: ...
    def take(self, frames: list[bytes], index: int) -> int: ...
    def go_on(self) -> None: ...

class PromptCall:
    @property
    def request_id(self) -> int: ...
    def cancel(self) -> None: ...
    def ended(self) -> asyncio.Future[None]: ...

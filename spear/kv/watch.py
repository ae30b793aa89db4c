"""Who wants to hear of changes: bounded queues of (sequence, key, value or None for a delete).

The rule: a watcher hears every change under its prefix, in order, or gets KvLagged: then it reads
again and watches anew. Writing never waits for a watcher. All of it is on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from spear.errors import KvError, KvLagged

Change = tuple[int, bytes, bytes | None]
CHANGES_MAX = 10_000
BYTES_MAX = 16 << 20


class Watch:
    """An async iterator over the changes under a prefix since it was made; for one reader.

    A change is heard as soon as it is visible, thus before it is synced. Watch first, then scan:
    nothing is missed, and a change that the scan shows too has a sequence to tell. `close` or
    `async with` ends it; then the iteration ends.
    """

    def __init__(
        self, prefix: bytes, forget: Callable[[Watch], None], changes_max: int, bytes_max: int
    ) -> None:
        self.prefix = prefix
        self._forget, self._changes_max, self._bytes_max = forget, changes_max, bytes_max
        self._queue: deque[Change] = deque()
        self._bytes = 0
        self._error: KvError | None = None
        self._closed = False
        self._reader: asyncio.Future[None] | None = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        if self._reader is not None:
            raise RuntimeError("a watch is for one reader, and another one waits on it")
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        change = self._queue.popleft()
        self._bytes -= _size(change)
        return change

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """What was queued is dropped."""
        self._queue.clear()
        self._closed = True
        self._forget(self)
        self._wake()

    def push(self, change: Change) -> None:
        """A change for this watcher; what it has not taken beyond the limits makes it lag."""
        self._queue.append(change)
        self._bytes += _size(change)
        if len(self._queue) > self._changes_max or self._bytes > self._bytes_max:
            self._queue.clear()
            self._error = KvLagged(
                f"the watch of {self.prefix!r} did not keep up: more than {self._changes_max} "
                f"changes or {self._bytes_max} bytes waited; read again, then watch anew"
            )
            self._forget(self)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Watchers:
    """All watches of one store; `watches` has those that are open."""

    def __init__(self, changes_max: int = CHANGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self.watches: dict[Watch, None] = {}  # in the order they were made
        self._limits = (changes_max, bytes_max)

    def watch(self, prefix: bytes) -> Watch:
        made = Watch(prefix, self._drop, *self._limits)
        self.watches[made] = None
        return made

    def tell(self, sequence: int, changes: Mapping[bytes, bytes | None]) -> None:
        for watch in tuple(self.watches):
            for key, value in changes.items():
                if key.startswith(watch.prefix) and watch in self.watches:
                    watch.push((sequence, key, value))

    def close(self) -> None:
        for watch in tuple(self.watches):
            watch.close()

    def _drop(self, watch: Watch) -> None:
        self.watches.pop(watch, None)


def _size(change: Change) -> int:
    return len(change[1]) + len(change[2] or b"")

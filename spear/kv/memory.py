"""The metadata store in memory: what tests and `spear run` use.

The rule: it passes the same contract suite as the one on disk; its class is volatile, and it says
so.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from threading import get_ident

from spear.errors import InvalidArgument, KvDamaged, KvError
from spear.kv.archive import write_archive
from spear.kv.batch import Batch, conflict
from spear.kv.interface import SCAN_LIMIT
from spear.kv.rows import prefix_end
from spear.kv.watch import Watch, Watchers


class MemoryKv:
    """A dictionary and its keys in order."""

    durability = "volatile"

    def __init__(self) -> None:
        self._thread = get_ident()
        self._rows: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._sequence = 0
        self._bytes = 0
        self._closed = False
        self._watchers = Watchers()

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self._rows.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = SCAN_LIMIT, reverse: bool = False,
        damaged: Callable[[bytes, KvDamaged], None] | None = None,
    ) -> list[tuple[bytes, bytes]]:  # fmt: skip
        self._check()
        if limit < 0:
            raise InvalidArgument(f"a scan's limit is 0 or more, not {limit}")
        keys, end = self._keys, prefix_end(prefix)
        first = bisect_left(keys, prefix)
        last = len(keys) if end is None else bisect_left(keys, end)
        if reverse:
            last = min(last, bisect_left(keys, after)) if after else last
            found = keys[max(first, last - limit) : max(first, last)][::-1]
        else:
            first = max(first, bisect_right(keys, after))
            found = keys[first : min(last, first + limit)]
        return [(key, self._rows[key]) for key in found]

    def write(self, batch: Batch) -> int:
        self._check()
        for key, expected in batch.expected.items():
            found = self._rows.get(key)
            if found != expected:
                raise conflict(key, expected, found)
        if batch.changes:
            self._sequence += 1
            for key, value in batch.changes.items():
                self._change(key, value)
            self._watchers.tell(self._sequence, batch.changes)
        return self._sequence

    def _change(self, key: bytes, value: bytes | None) -> None:
        old = self._rows.pop(key, None)
        if old is not None:
            self._bytes -= len(key) + len(old)
        if value is not None:
            self._rows[key] = value
            self._bytes += len(key) + len(value)
        if old is None and value is not None:
            insort(self._keys, key)
        elif old is not None and value is None:
            del self._keys[bisect_left(self._keys, key)]

    async def synced(self, sequence: int) -> None:
        self._check()

    def when_synced(self, sequence: int, call: Callable[[KvError | None], None]) -> None:
        self._check()
        asyncio.get_running_loop().call_soon(call, None)

    async def commit(self, batch: Batch) -> int:
        return self.write(batch)

    def watch(self, prefix: bytes) -> Watch:
        self._check()
        return self._watchers.watch(prefix)

    def stats(self) -> dict[str, int]:
        return {
            "rows": len(self._rows),
            "bytes": self._bytes,
            "sequence": self._sequence,
            "watches": len(self._watchers.watches),
        }

    async def backup(self, path: str) -> None:
        self._check()
        await write_archive(path, self._sequence, _chunks(dict(self._rows)))

    async def close(self) -> None:
        self._closed = True
        self._watchers.close()

    def _check(self) -> None:
        if self._closed:
            raise KvError("the metadata store is closed")
        if get_ident() != self._thread:
            raise RuntimeError("the metadata store is used from another thread than its own")


def open_memory() -> MemoryKv:
    """An empty store."""
    return MemoryKv()


def _chunks(rows: dict[bytes, bytes], count: int = 256) -> Iterator[list[tuple[bytes, bytes]]]:
    keys = sorted(rows)
    for at in range(0, len(keys), count):
        yield [(key, rows[key]) for key in keys[at : at + count]]

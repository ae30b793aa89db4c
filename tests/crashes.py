"""A process that dies: a fuse that blows at the n-th step, and a metadata store that loses what was
not synced.

The rule: what the store promises is what it keeps, and not a byte more, so that code which does not
wait for `synced` is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from spear.errors import KvError
from spear.kv.batch import Batch
from spear.kv.memory import MemoryKv


class Crash(BaseException):
    """Nobody catches this but the test."""


class Fuse:
    """Blows at the step number `after`, from 1; 0: never."""

    def __init__(self, after: int = 0) -> None:
        self.left, self.blown = after, False

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.blown = True
            raise Crash


class CrashingKv(MemoryKv):
    """`survivors` is the store as it is found after the crash: all that was written if only the
    process died (`power` False), else what was synced."""

    durability = "power"

    def __init__(self, fuse: Fuse, rows: dict[bytes, bytes] | None = None) -> None:
        super().__init__()
        self._fuse = fuse
        for key, value in (rows or {}).items():
            batch = Batch()
            batch.put(key, value)
            super().write(batch)
        self._durable = dict(self._rows)

    def write(self, batch: Batch) -> int:
        self._fuse.step()
        sequence = super().write(batch)
        self._fuse.step()
        return sequence

    async def synced(self, sequence: int) -> None:
        self._fuse.step()
        self._durable = dict(self._rows)
        self._fuse.step()

    def when_synced(self, sequence: int, call: Callable[[KvError | None], None]) -> None:
        self._fuse.step()
        self._durable = dict(self._rows)
        self._fuse.step()
        asyncio.get_running_loop().call_soon(call, None)

    async def commit(self, batch: Batch) -> int:
        sequence = self.write(batch)
        await self.synced(sequence)
        return sequence

    def survivors(self, fuse: Fuse, *, power: bool) -> CrashingKv:
        return CrashingKv(fuse, self._durable if power else self._rows)

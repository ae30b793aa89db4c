"""Writes what happens in one turn of the event loop as one batch, and says when it is kept.

The rule: what is told to somebody was written before, in the class it was promised in. `crash` is
written when the turn ends, `power` once a flush after that is done; many turns share a flush. A
write that fails keeps nothing of its turn, and everybody who waits for it is told why. Who takes
many requests in one turn says when they are all there (`gather`, `settle`), so that nobody waits
for a turn more.
"""

from __future__ import annotations

import asyncio
from functools import partial

from spear.kv.batch import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.kv.interface import LocalKv

    Then = Callable[[Exception | None], None]


_BATCH_BYTES = 16 << 20  # above it a turn is written in several
_ROUNDS = 8  # of writes that lead to more, before the loop has its turn


class Journal:
    """One a node; on its loop only."""

    def __init__(self, kv: LocalKv) -> None:
        self._kv = kv
        self._begin_batch()
        self._full: list[tuple[Batch, list[Then], list[Then]]] = []
        self._syncing = 0  # flushes waited for
        self._synced_all: asyncio.Future[None] | None = None
        self._due = self._gathering = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def class_of(self, power: bool) -> str:
        """The durability of a write that asked for this."""
        if self._kv.durability == "volatile":
            return "volatile"
        return "power" if power else "crash"

    def then(self, call: Then, *, power: bool = False) -> None:
        """Calls `call(None)` once all that was put so far is kept, or `call(error)`; never before
        this returns."""
        (self._power if power else self._crash).append(call)
        if self._batch.bytes > _BATCH_BYTES:
            self._turn_over()
        if not self._due:
            self._due = True
            if not self._gathering:
                (self._loop or self.loop).call_soon(self._flush)

    def gather(self) -> None:
        """What is put from now on is written by `settle`."""
        self._gathering = True

    def settle(self) -> None:
        """Writes what was put, and what those put who are told of it."""
        try:
            for _ in range(_ROUNDS):
                if not self._due:
                    break
                self._flush()
        finally:  # or nothing would be written any more
            self._gathering = False
            if self._due:
                self.loop.call_soon(self._flush)

    async def kept(self, *, power: bool = True) -> None:
        """Returns once all that was put so far is kept. Raises KvFull, KvDamaged."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.then(lambda error: _resolve(future, error), power=power)
        await future

    async def close(self) -> None:
        """Everything written, every flush waited for."""
        if self._due:
            self._flush()
        if self._syncing:
            self._synced_all = self.loop.create_future()
            await self._synced_all

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The node's; asking asyncio costs a system call each time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _flush(self) -> None:
        if not self._due:
            return
        full, self._full, self._due = self._full, [], False
        batch, crash, power = self._batch, self._crash, self._power
        self._begin_batch()
        for one in full:
            self._write(*one)
        self._write(batch, crash, power)

    def _turn_over(self) -> None:
        self._full.append((self._batch, self._crash, self._power))
        self._begin_batch()

    def _begin_batch(self) -> None:
        """`put` and `delete` are those of the batch that is being filled."""
        self._batch = batch = Batch()
        self.put, self.delete = batch.put, batch.delete
        self._crash: list[Then] = []
        self._power: list[Then] = []

    def _write(self, batch: Batch, crash: list[Then], power: list[Then]) -> None:
        try:
            sequence = self._kv.write(batch)
        except Exception as error:  # told to all whose rows these were
            _tell(crash + power, error)
            return
        _tell(crash, None)
        if power:
            self._syncing += 1
            self._kv.when_synced(sequence, partial(self._synced, power))

    def _synced(self, power: list[Then], error: Exception | None) -> None:
        self._syncing -= 1
        _tell(power, error)
        if not self._syncing and self._synced_all is not None:
            _resolve(self._synced_all, None)


def _tell(calls: list[Then], error: Exception | None) -> None:
    """One that raises is reported, and keeps nothing from the others."""
    for call in calls:
        try:
            call(error)
        except Exception as raised:
            what = {"message": "what a write was followed by failed", "exception": raised}
            asyncio.get_running_loop().call_exception_handler(what)


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)

"""The executions that have ended, in the metadata store: found by id, listed by time, forgotten.

The rule: nothing of them is in memory but how many there are and how many bytes they take, which
the rows themselves say. A list is read in slices, so that one over a million records does not stop
the loop; forgetting goes from the oldest on, one round or removal at a time. What somebody may
still ask for by its key or its id (`rows.by_time`) is counted by itself, so that no number of plain
calls pushes it out, nor any size of them: plain ones have the bytes that held ones leave.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple

import msgspec

from spear.errors import InvalidArgument, KvDamaged, SpearError
from spear.records.execution import Execution
from spear.spearlet.node import rows
from spear.spearlet.node.ages import Ages
from spear.spearlet.node.answers import PAGE_BYTES_MAX
from spear.spearlet.node.unreadable import Unreadable
from spear.spearlet.node.work import is_cut_off

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from spear.spearlet.node.parts import Parts

    Rows = list[tuple[bytes, bytes]]  # stamps and values of an index
    Sized = list[tuple[bytes, bytes, int]]  # with the bytes that each takes
_Stuck = dict[bytes, str]  # the stamps of what cannot be forgotten now, and why

_SLICE = 256
_OVER_BYTES_MIN = 1 << 20  # beyond the bound, before forgetting does not wait for the next round
_LOOKED_AT_MAX = 100_000  # records behind one page; a filter that finds less gives a short page


class Bounds(NamedTuple):
    """Of what is remembered: how many of each kind, how many bytes in all, how long."""

    count_max: int
    bytes_max: int
    age_ns_max: int


class History:
    """Of one node, on its loop. `forget` is told of each execution that goes; `pending` says of an
    id whether its end is not kept yet: then it is not counted, whatever rows of it are there."""

    def __init__(
        self, parts: Parts, forget: Callable[[Execution], Awaitable[None]],
        pending: Callable[[str], bool], bounds: Bounds,
    ) -> None:  # fmt: skip
        self._parts, self._forget, self._pending = parts, forget, pending
        self._bounds, self._unreadable = bounds, Unreadable(parts.log)
        self._counts = dict.fromkeys(rows.BY_TIME, 0)
        self._bytes = dict.fromkeys(rows.BY_TIME, 0)  # of records and results
        self.bytes_taken = 0  # by all of them
        self._forgotten = 0  # since the start
        self._leaving: set[bytes] = set()  # rows by time that are counted, and being deleted
        self._stuck: set[bytes] = set()  # stamps of what the last round could not forget
        self._ages = Ages(parts.clock)
        self._forgetting = asyncio.Lock()
        self._far_over_bytes = bounds.bytes_max + max(bounds.bytes_max // 4, _OVER_BYTES_MIN)
        self._far_over = asyncio.Event()

    @property
    def count(self) -> int:
        return sum(self._counts.values())

    async def load(self) -> None:
        """Counts what is kept; once, at start."""
        newest_ns = 0
        for index in rows.BY_TIME:
            async for part in self._slices(index):
                for stamp, value in part:
                    self._count(index, self._size_of(stamp, value))
                    newest_ns = max(newest_ns, rows.finished_ns_of(value))
        self._ages.found(newest_ns)

    def added(self, execution: Execution, size: int) -> None:
        """It has ended and its rows are there."""
        self._count(rows.by_time(execution), size)

    async def far_over(self) -> None:
        """Returns once there is so much that it is not to wait for the next round."""
        await self._far_over.wait()
        self._far_over.clear()

    def _count(self, index: bytes, size: int) -> None:
        self._counts[index] += 1
        self._bytes[index] += size
        self.bytes_taken += size
        if self.bytes_taken > self._far_over_bytes:
            self._far_over.set()

    def find(self, id: str) -> Execution | None:
        found = self._row(id)
        return found and found[0]

    def _row(self, id: str) -> tuple[Execution, int] | None:
        """The record, and its bytes in the store without its output."""
        row = self._parts.kv.get(rows.execution_key(id))
        if row is None:
            return None
        try:
            execution = rows.decode_execution(row)
        except msgspec.MsgspecError as error:
            raise KvDamaged(f"the record of execution {id!r} cannot be read: {error}") from error
        return execution, len(row) - len(execution.output)

    async def page(
        self, task_id: str, matches: Callable[[Execution], bool], limit: int, token: str,
        root: str = "",
    ) -> tuple[list[Execution], str]:  # fmt: skip
        """The newest first, of all or of a root's tree, behind the token of the page before; and
        the next token, "" at the end. No more than make a page's bytes; what cannot be read is left
        out. Raises InvalidArgument for a token of other making, KvDamaged where nothing can be
        read."""
        found: list[Execution] = []
        met: list[KvDamaged] = []
        last, looked_at, taken, wanted = b"", 0, 0, task_id.encode()
        indexes = (rows.tree_prefix(root),) if root else rows.BY_TIME
        async for stamp, value in self._newest(indexes, _stamp_of(token), met):
            if len(found) == limit or looked_at == _LOOKED_AT_MAX or taken > PAGE_BYTES_MAX:
                return found, last.hex()
            last = stamp
            looked_at += 1
            if wanted and rows.task_id_of(value) != wanted:
                continue
            row = self._readable(rows.id_of_stamp(stamp))
            if row is not None and matches(row[0]):
                found.append(row[0])
                taken += row[1]
        if met and not (looked_at or token):
            raise met[0]
        return found, ""

    def _readable(self, id: str) -> tuple[Execution, int] | None:
        try:
            return self._row(id)
        except KvDamaged as error:
            self._unreadable.tell(rows.execution_key(id), error)
            return None

    async def trim(self) -> int:
        """Forgets what is beyond the bounds; how many. What cannot be forgotten now is passed over,
        told once, and tried again in the next round. Raises KvError where nothing can be."""
        async with self._forgetting:
            until_ns, stuck = self._ages.now_ns() - self._bounds.age_ns_max, _Stuck()
            before = self._forgotten
            await self._trim(rows.HELD_BY_TIME, until_ns, self._bounds.bytes_max, stuck)
            left = self._bounds.bytes_max - self._bytes[rows.HELD_BY_TIME]
            await self._trim(rows.PLAIN_BY_TIME, until_ns, left, stuck)
            if stamp := next((stamp for stamp in stuck if stamp not in self._stuck), None):
                self._parts.log.warn(
                    "executions not forgotten", count=len(stuck), first=rows.id_of_stamp(stamp),
                    reason=stuck[stamp],
                )  # fmt: skip
            self._stuck = set(stuck)
            return self._forgotten - before

    async def _trim(self, index: bytes, until_ns: int, bytes_max: int, stuck: _Stuck) -> None:
        async for part in self._slices(index, damaged=self._unreadable.tell):
            leaving, more = self._beyond(index, part, until_ns, bytes_max, stuck)
            await self._forget_rows(index, leaving, stuck)
            if not more:
                break

    def _beyond(
        self, index: bytes, part: Rows, until_ns: int, bytes_max: int, stuck: _Stuck
    ) -> tuple[Sized, bool]:
        """Those of a part that are too many, too large together or too old, with their sizes; and
        whether there may be more behind it."""
        counted_ns, count_max = self._ages.counted_ns, self._bounds.count_max
        count, taken = self._counts[index], self._bytes[index]
        found: Sized = []
        for stamp, value in part:
            if count <= count_max and taken <= bytes_max:
                if counted_ns(rows.created_ns_of(stamp)) >= until_ns:
                    return found, False
                if counted_ns(rows.finished_ns_of(value)) >= until_ns:
                    continue
            if self._pending(rows.id_of_stamp(stamp)):
                continue
            try:
                size = self._size_of(stamp, value)
            except SpearError as error:
                stuck[stamp] = str(error)
                continue
            count, taken = count - 1, taken - size
            found.append((stamp, value, size))
        return found, True

    async def remove(self, execution: Execution) -> None:
        """Forgets one, which is kept when this returns."""
        async with self._forgetting:
            stamp, kv = rows.stamp_of(execution), self._parts.kv
            for index in rows.BY_TIME:  # a held one of an earlier version is in that of plain ones
                value = kv.get(index + stamp)
                if value is not None and not self._pending(execution.id):
                    size = self._size_of(stamp, value)
                    await self._forget_row(index, stamp, value, size, power=True)
                    break
            else:
                await self._forget_more(execution)  # whose rows are not kept, and not counted
            await self._parts.journal.kept()

    async def _forget_rows(self, index: bytes, leaving: Sized, stuck: _Stuck) -> None:
        for stamp, value, size in leaving:
            try:
                await self._forget_row(index, stamp, value, size)
            except SpearError as error:
                stuck[stamp] = str(error)
        if leaving:
            await self._parts.journal.kept(power=False)

    def _left(self, index: bytes, stamp: bytes, size: int, error: Exception | None) -> None:
        """It is counted until its row is gone, whether or not who wanted that still waits. Where a
        flush failed the row is gone all the same, and stays so."""
        row = index + stamp
        if row in self._leaving and (error is None or self._parts.kv.get(row) is None):
            self._leaving.discard(row)
            self._forgotten += 1
            self._counts[index] -= 1
            self._bytes[index] -= size
            self.bytes_taken -= size

    def _size_of(self, stamp: bytes, value: bytes) -> int:
        """Also of one of an earlier version, whose record is then read."""
        size = rows.size_in(value)
        if size is None:
            record = self._parts.kv.get(rows.execution_key(rows.id_of_stamp(stamp)))
            size = rows.bytes_of(rows.decode_execution(record), record) if record else 0
        return size

    async def _forget_row(
        self, index: bytes, stamp: bytes, value: bytes, size: int, *, power: bool = False
    ) -> None:
        journal, id = self._parts.journal, rows.id_of_stamp(stamp)
        if not rows.stands_alone(value):
            execution = self.find(id)
            if execution is not None:
                await self._forget_more(execution)
        journal.delete(index + stamp)
        journal.delete(rows.execution_key(id))
        self._leaving.add(index + stamp)
        journal.then(partial(self._left, index, stamp, size), power=power)  # of just this write

    async def _forget_more(self, execution: Execution) -> None:
        """What belongs to it beside its record. Its log first, which may be refused: then its key
        must still be there, or the same key would run twice."""
        if execution.idempotency_key and is_cut_off(execution):
            await self._parts.journal.kept(power=False)  # another may have its key by now
        await self._forget(execution)
        if execution.depth:
            self._parts.journal.delete(rows.tree_key(execution))
        if execution.idempotency_key:
            key = rows.idempotency_key(rows.owner(execution), execution.idempotency_key)
            if self._parts.kv.get(key) == execution.id.encode():
                self._parts.journal.delete(key)

    async def _newest(
        self, indexes: Iterable[bytes], after: bytes, met: list[KvDamaged]
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """All of the indexes in one order, the newest first; `met` gets what cannot be read."""

        def damaged(key: bytes, error: KvDamaged) -> None:
            met.append(error)
            self._unreadable.tell(key, error)

        sides = [self._stamps(index, after, damaged) for index in indexes]
        heads = [await anext(side, None) for side in sides]
        while found := [head for head in heads if head is not None]:
            newest = max(found)
            yield newest
            at = heads.index(newest)
            heads[at] = await anext(sides[at], None)

    async def _stamps(
        self, index: bytes, after: bytes, damaged: Callable[[bytes, KvDamaged], None]
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        async for part in self._slices(index, after, reverse=True, damaged=damaged):
            for row in part:
                yield row

    async def _slices(
        self, index: bytes, after: bytes = b"", *, reverse: bool = False,
        damaged: Callable[[bytes, KvDamaged], None] | None = None,
    ) -> AsyncIterator[Rows]:  # fmt: skip
        """What follows the index's name in its keys, which end with a stamp, and the values."""
        last = index + after if after else b""
        while True:
            found = self._parts.kv.scan(
                index, after=last, limit=_SLICE, reverse=reverse, damaged=damaged
            )
            yield [(key[len(index) :], value) for key, value in found]
            if len(found) < _SLICE:
                return
            last = found[-1][0]
            await asyncio.sleep(0)


def _stamp_of(token: str) -> bytes:
    try:
        return bytes.fromhex(token)
    except ValueError:
        raise InvalidArgument(f"no page token of this node: {token[:80]!r}") from None

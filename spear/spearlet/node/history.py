"""The executions that have ended, in the metadata store: found by id, listed by time, forgotten.

The rule: nothing of them is in memory but their number. A list is read in slices, so that one over
a million records does not stop the loop; forgetting goes from the oldest on. What somebody may
still ask for by its key or its id (`rows.by_time`) is counted by itself, so that no number of plain
calls pushes it out.
"""

from __future__ import annotations

import asyncio

from spear.errors import InvalidArgument
from spear.records.execution import Execution
from spear.spearlet.node import rows
from spear.spearlet.node.ages import Ages
from spear.spearlet.node.work import is_cut_off

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from spear.spearlet.node.parts import Parts

_SLICE = 256
_LOOKED_AT_MAX = 100_000  # records behind one page; a filter that finds less gives a short page


class History:
    """Of one node, on its loop. `forget` is told of each execution that goes."""

    def __init__(self, parts: Parts, forget: Callable[[Execution], Awaitable[None]]) -> None:
        self._parts, self._forget = parts, forget
        self._counts = dict.fromkeys(rows.BY_TIME, 0)
        self._ages = Ages(parts.clock)

    @property
    def count(self) -> int:
        return sum(self._counts.values())

    async def load(self) -> None:
        """Counts what is kept; once, at start."""
        newest_ns = 0
        for index in rows.BY_TIME:
            async for _, value in self._stamps(index):
                self._counts[index] += 1
                newest_ns = max(newest_ns, rows.finished_ns_of(value))
        self._ages.found(newest_ns)

    def added(self, execution: Execution) -> None:
        """It has ended; its rows are kept or will be."""
        self._counts[rows.by_time(execution)] += 1

    def find(self, id: str) -> Execution | None:
        row = self._parts.kv.get(rows.execution_key(id))
        return None if row is None else rows.decode_execution(row)

    async def page(
        self, task_id: str, matches: Callable[[Execution], bool], limit: int, token: str,
        root: str = "",
    ) -> tuple[list[Execution], str]:  # fmt: skip
        """The newest first, of all or of a root's tree, behind the token of the page before; and
        the next token, "" at the end. Raises InvalidArgument for a token of other making."""
        found: list[Execution] = []
        last, looked_at, wanted = b"", 0, task_id.encode()
        indexes = (rows.tree_prefix(root),) if root else rows.BY_TIME
        async for stamp, value in self._newest(indexes, _stamp_of(token)):
            if len(found) == limit or looked_at == _LOOKED_AT_MAX:
                return found, last.hex()
            last = stamp
            looked_at += 1
            if wanted and rows.task_id_of(value) != wanted:
                continue
            execution = self.find(rows.id_of_stamp(stamp))
            if execution is not None and matches(execution):
                found.append(execution)
        return found, ""

    async def trim(self, count_max: int, age_ns_max: int) -> int:
        """Forgets what is too much of each kind, and too old; how many."""
        until_ns = self._ages.now_ns() - age_ns_max
        gone = 0
        for index in rows.BY_TIME:
            gone += await self._trim(index, count_max, until_ns)
        if gone:
            await self._parts.journal.kept(power=False)
        return gone

    async def _trim(self, index: bytes, count_max: int, until_ns: int) -> int:
        gone, counted_ns = 0, self._ages.counted_ns
        async for stamp, value in self._stamps(index):
            if self._counts[index] <= count_max:
                if counted_ns(rows.created_ns_of(stamp)) >= until_ns:
                    break
                if counted_ns(rows.finished_ns_of(value)) >= until_ns:
                    continue
            await self._forget_row(index, stamp, value)
            gone += 1
        return gone

    async def remove(self, execution: Execution) -> None:
        """Forgets one; kept with the next write of the journal."""
        index, stamp = rows.by_time(execution), rows.stamp_of(execution)
        if self._parts.kv.get(rows.PLAIN_BY_TIME + stamp) is not None:
            index = rows.PLAIN_BY_TIME  # a held one of an earlier version
        await self._forget_row(index, stamp, rows.time_value(execution))

    async def _forget_row(self, index: bytes, stamp: bytes, value: bytes) -> None:
        journal, id = self._parts.journal, rows.id_of_stamp(stamp)
        if not rows.stands_alone(value):
            await self._forget_more(id)
        journal.delete(index + stamp)
        journal.delete(rows.execution_key(id))
        self._counts[index] -= 1

    async def _forget_more(self, id: str) -> None:
        execution = self.find(id)
        if execution is None:
            return
        if execution.depth:
            self._parts.journal.delete(rows.tree_key(execution))
        if execution.idempotency_key:
            key = rows.idempotency_key(rows.owner(execution), execution.idempotency_key)
            if is_cut_off(execution):  # then another may have it by now, in this turn even
                await self._parts.journal.kept(power=False)
            if self._parts.kv.get(key) == id.encode():
                self._parts.journal.delete(key)
        await self._forget(execution)

    async def _newest(
        self, indexes: Iterable[bytes], after: bytes
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """All of the indexes in one order, the newest first."""
        sides = [self._stamps(index, after, reverse=True) for index in indexes]
        heads = [await anext(side, None) for side in sides]
        while found := [head for head in heads if head is not None]:
            newest = max(found)
            yield newest
            at = heads.index(newest)
            heads[at] = await anext(sides[at], None)

    async def _stamps(
        self, index: bytes, after: bytes = b"", *, reverse: bool = False
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """What follows the index's name in its keys, which end with a stamp, and the values, in
        slices."""
        last = index + after if after else b""
        while True:
            found = self._parts.kv.scan(index, after=last, limit=_SLICE, reverse=reverse)
            for key, value in found:
                yield key[len(index) :], value
            if len(found) < _SLICE:
                return
            last = found[-1][0]
            await asyncio.sleep(0)


def _stamp_of(token: str) -> bytes:
    try:
        return bytes.fromhex(token)
    except ValueError:
        raise InvalidArgument(f"no page token of this node: {token[:80]!r}") from None

"""Keeps the ends of executions: their records, their indexes, results too large for a record.

The rule: an end is kept before it is told. One that cannot be kept (no room on the disk) is told
as `volatile`, held in memory and written again until it is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import msgspec

from spear.errors import KvError
from spear.spearlet.node import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear.records.execution import Execution
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.secrets import Hiding

INLINE_BYTES_MAX = 65536  # of a result in its record, and of an input in its row
_AGAIN_S = 1.0

Rows = list[tuple[bytes, bytes]]


class End(NamedTuple):
    """What is kept of one execution that has ended. `then` is called once the record and the rows
    `more` are kept or cannot be; the record's durability says which. `spoilt` is told instead of
    what nobody foresaw, and that nothing is kept."""

    execution: Execution
    more: Rows
    then: Callable[[], None]
    spoilt: Callable[[Exception], None]
    written: bool  # there is a row of its beginning
    hiding: Hiding | None = None  # of what is not to be seen in its output


class Ends:
    """Of one node, on its loop. `kept` is told of each execution whose rows are there, and how many
    bytes it takes."""

    def __init__(self, parts: Parts, kept: Callable[[Execution, int], None]) -> None:
        self._parts, self._kept = parts, kept
        self._removing: set[str] = set()
        self.unkept: dict[str, tuple[Execution, Rows]] = {}  # ended, and not kept yet
        self._timers: dict[str, asyncio.TimerHandle] = {}  # of those that are written again
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def find(self, id: str) -> Execution | None:
        """One that has ended and is not kept yet."""
        found = self.unkept.get(id)
        return None if found is None else found[0]

    @contextmanager
    def removing(self, id: str) -> Iterator[None]:
        """One that is not kept is not written again meanwhile; once the body has ended well it is
        gone, and what was written of its beginning with the body's rows."""
        if id not in self.unkept:
            yield
            return
        self._stop_timer(id)
        self._parts.journal.delete(rows.live_key(id))
        for key, _ in rows.rows_of_end(self.unkept[id][0])[1]:  # in this turn's batch, it may be
            self._parts.journal.delete(key)
        self._removing.add(id)
        try:
            yield
        except BaseException:
            if self._closed:
                self._write_again(id)
            else:
                self._later(id)
            raise
        finally:
            self._removing.discard(id)
        self._stop_timer(id)  # of another removal, which was refused
        if found := self.unkept.pop(id, None):
            self._let_go(found[0])

    def _stop_timer(self, id: str) -> None:
        again = self._timers.pop(id, None)
        if again is not None:
            again.cancel()

    def close(self) -> None:
        """Writes what is not kept a last time, with the journal's next write."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for id in self.unkept.keys() - self._removing:
            self._write_again(id)

    def keep(self, end: End) -> None:
        execution = end.execution
        if len(execution.output) > INLINE_BYTES_MAX:
            task = asyncio.get_running_loop().create_task(self._keep_large(end))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        try:
            if end.hiding is not None:
                execution.output = end.hiding.now(execution.output)
            self.write(end, execution)
        except Exception as error:
            end.spoilt(error)

    async def _keep_large(self, end: End) -> None:
        """The file first, so that no record names one that is not there."""
        execution = end.execution
        try:
            if end.hiding is not None:
                execution.output = await end.hiding.in_turns(execution.output)
            await self._put_result(execution)
            self.write(end, msgspec.structs.replace(execution, output=b""))
        except Exception as error:
            self._let_go(execution)
            end.spoilt(error)

    async def _put_result(self, execution: Execution) -> None:
        put, sync = self._parts.files.results.put, execution.mode == "async"
        try:
            execution.output_digest = await put(execution.output, sync=sync)
        except (KvError, OSError) as error:
            self._parts.log.error("result not kept", execution=execution.id, reason=str(error))

    def hold(self, kept: Execution, then: Callable[[], None]) -> None:
        """In memory until it can be written. `then` is called later, as of End: who asked for the
        execution may not listen for its end yet."""
        kept.durability = "volatile"
        self.unkept[kept.id] = kept, []
        self._later(kept.id)
        asyncio.get_running_loop().call_soon(then)

    def write(self, end: End, kept: Execution) -> None:
        """As `keep`; `kept` is the record as its row has it, with no large output."""
        journal, power = self._parts.journal, kept.mode == "async"
        end.execution.durability = kept.durability = journal.class_of(power)
        size = self.put(kept, end.more)  # where this fails, the row of its beginning stays
        if end.written:
            journal.delete(rows.live_key(kept.id))
        journal.then(partial(self._written, end, kept, size), power=power)

    def put(self, kept: Execution, more: Rows) -> int:
        """How many bytes it takes. Where it raises, nothing of it is written."""
        put, done = self._parts.journal.put, 0
        size, found = rows.rows_of_end(kept)
        found += more
        try:
            for key, value in found:
                put(key, value)
                done += 1
        except BaseException:
            for key, _ in found[:done]:
                self._parts.journal.delete(key)
            raise
        return size

    def _written(self, end: End, kept: Execution, size: int, error: Exception | None) -> None:
        if error is not None:
            end.execution.durability = "volatile"
            self.unkept[kept.id] = kept, end.more
            self._parts.log.error("end not kept", execution=kept.id, reason=str(error))
            self._later(kept.id)
        else:
            self._is_kept(kept, size)
        end.then()

    def _is_kept(self, kept: Execution, size: int) -> None:
        self._kept(kept, size)
        self._let_go(kept)

    def _let_go(self, kept: Execution) -> None:
        """A row names the result now, or none will."""
        if kept.output_digest:
            self._parts.files.results.let_go(kept.output_digest)

    def _later(self, id: str) -> None:
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._timers[id] = loop.call_later(_AGAIN_S, self._again, id)

    def _again(self, id: str) -> None:
        del self._timers[id]
        self._write_again(id)

    def _write_again(self, id: str) -> None:
        kept, more = self.unkept[id]
        try:
            written = partial(self._written_again, id, self.put(kept, more))
            self._parts.journal.delete(rows.live_key(id))
            self._parts.journal.then(written, power=kept.mode == "async")
        except Exception:  # it was told why when it was to be kept
            self._later(id)

    def _written_again(self, id: str, size: int, error: Exception | None) -> None:
        if id not in self.unkept or id in self._timers or id in self._removing:
            return  # removed meanwhile, or about to be written once more
        if error is None:
            self._is_kept(self.unkept.pop(id)[0], size)
        else:
            self._later(id)

"""Keeps the ends of executions: their records, their indexes, results too large for a record.

The rule: an end is kept before it is told. One that cannot be kept (no room on the disk) is told
as `volatile`, held in memory and written again until it is kept.
"""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from spear.errors import KvError
from spear.spearlet.node import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.records.execution import Execution
    from spear.spearlet.node.parts import Parts

INLINE_BYTES_MAX = 65536  # of a result in its record, and of an input in its row
_AGAIN_S = 1.0

Rows = list[tuple[bytes, bytes]]


class Ends:
    """Of one node, on its loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._unkept: dict[str, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._unkept)

    def find(self, id: str) -> Execution | None:
        """One that has ended and is not kept yet."""
        return self._unkept.get(id)

    def keep(self, execution: Execution, more: Rows, then: Callable[[], None]) -> None:
        """Calls `then` once the record and the rows `more` are kept or cannot be; the record's
        durability says which."""
        power = execution.mode == "async"
        execution.durability = self._parts.journal.class_of(power)
        if len(execution.output) <= INLINE_BYTES_MAX:
            self._write(execution, execution, more, then)
            return
        task = asyncio.get_running_loop().create_task(self._keep_large(execution, more, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_large(self, execution: Execution, more: Rows, then: Callable[[], None]) -> None:
        """The file first, so that no record names one that is not there."""
        sync = execution.mode == "async"
        try:
            execution.output_digest = await self._parts.files.results.put(
                execution.output, sync=sync
            )
        except (KvError, OSError) as error:
            self._parts.log.error("result not kept", execution=execution.id, reason=str(error))
        kept = msgspec.structs.replace(execution, output=b"")
        self._write(execution, kept, more, then)

    def _write(
        self, execution: Execution, kept: Execution, more: Rows, then: Callable[[], None]
    ) -> None:
        self._put(kept, more)
        written = partial(self._written, execution, kept, more, then)
        self._parts.journal.then(written, power=kept.mode == "async")

    def _put(self, kept: Execution, more: Rows) -> None:
        journal = self._parts.journal
        journal.delete(rows.live_key(kept.id))
        journal.put(rows.execution_key(kept.id), rows.encode(kept))
        journal.put(rows.time_key(kept), rows.time_value(kept))
        if kept.depth:
            journal.put(rows.tree_key(kept), rows.time_value(kept))
        if kept.output_digest:
            journal.put(rows.result_key(kept.output_digest, kept.id), b"")
        for key, value in more:
            journal.put(key, value)

    def _written(
        self, execution: Execution, kept: Execution, more: Rows, then: Callable[[], None],
        error: Exception | None,
    ) -> None:  # fmt: skip
        if error is not None:
            execution.durability = "volatile"
            self._unkept[kept.id] = kept
            self._parts.log.error("end not kept", execution=kept.id, reason=str(error))
            self._later(kept, more)
        else:
            self._let_go(kept)
        then()

    def _let_go(self, kept: Execution) -> None:
        """Its row names the result now."""
        if kept.output_digest:
            self._parts.files.results.let_go(kept.output_digest)

    def _later(self, kept: Execution, more: Rows) -> None:
        asyncio.get_running_loop().call_later(_AGAIN_S, self._again, kept, more)

    def _again(self, kept: Execution, more: Rows) -> None:
        def written(error: Exception | None) -> None:
            if error is None:
                del self._unkept[kept.id]
                self._let_go(kept)
            else:
                self._later(kept, more)

        self._put(kept, more)
        self._parts.journal.then(written, power=kept.mode == "async")

"""Tells watchers how executions change.

The rule: a watcher gets the newest record of each execution that changed since its last look, so a
slow one misses steps between but never an end, and holds one record an execution. Who waits for
more executions than the limit at once is told to look anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from spear.errors import QueueFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.execution import Execution

WAITING_MAX = 10_000


class _Watcher:
    __slots__ = ("changed", "id", "lost", "task", "woken")

    def __init__(self, id: str, task: str) -> None:
        self.id, self.task = id, task
        self.changed: dict[str, Execution] = {}
        self.woken = asyncio.Event()
        self.lost = False

    def wants(self, execution: Execution) -> bool:
        if self.id:
            return execution.id == self.id
        return not self.task or self.task in (execution.task_id, execution.task_name)


class Events:
    """Of one node, on its loop; costs nothing while nobody watches."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def changed(self, execution: Execution) -> None:
        """The record as it is now; outputs are not part of it."""
        if not self._watchers:
            return
        seen = msgspec.structs.replace(execution, output=b"")
        for watcher in self._watchers:
            if watcher.wants(seen):
                self._tell(watcher, seen)

    async def watch(
        self, id: str, task: str, first: Execution | None = None
    ) -> AsyncIterator[Execution]:
        """`first`, if it is given, and then the changes since it was asked for; of one execution
        to its end. Raises QueueFull where the watcher fell too far behind."""
        watcher = _Watcher(id, task)
        self._watchers.add(watcher)
        try:
            if first is not None:
                yield first
            while True:
                await watcher.woken.wait()
                watcher.woken.clear()
                changed, watcher.changed = watcher.changed, {}
                for execution in changed.values():
                    yield execution
                    if id and execution.ended:
                        return
                if watcher.lost:
                    raise QueueFull(
                        f"{WAITING_MAX} executions changed unseen: list them, then watch anew"
                    )
        finally:
            self._watchers.discard(watcher)

    def _tell(self, watcher: _Watcher, execution: Execution) -> None:
        changed = watcher.changed
        changed.pop(execution.id, None)  # the order is that of the last changes
        if len(changed) >= WAITING_MAX:
            watcher.lost = True
        else:
            changed[execution.id] = execution
        watcher.woken.set()

"""Keeps and tells the ends of executions that were over at once.

The rule: the short way or the long one. Nothing belongs to such an end but its rows, whoever waits
and perhaps a log; what cannot be kept like this goes on as any other end (telling.py).
"""

from __future__ import annotations

from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.records.execution import Execution
    from spear.spearlet.node.ends import Ends
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.telling import Telling
    from spear.spearlet.node.work import Work


class BriefEnds:
    """Of one node, on its loop. `kept` and `told` are as of Executions."""

    def __init__(
        self, parts: Parts, ends: Ends, telling: Telling, forget: Callable[[Work], None],
        kept: Callable[[Execution, int], None], told: Callable[[Execution], None],
    ) -> None:  # fmt: skip
        self._parts, self._journal, self._events = parts, parts.journal, parts.events
        self._ends, self._telling = ends, telling
        self._forget, self._kept, self._told = forget, kept, told
        self._durability = parts.journal.class_of(False)

    def keep(self, work: Work) -> None:
        """Of a work whose record says how it ended, with all of its output."""
        work.execution.durability = self._durability
        try:
            size = self._ends.put(work.execution, [])
        except Exception as error:
            self._telling.spoilt(work, error)
        else:
            self._journal.then(partial(self._written, work, size))

    def _written(self, work: Work, size: int, error: Exception | None) -> None:
        execution = work.execution
        if error is not None:
            self._parts.log.error("end not kept", execution=execution.id, reason=str(error))
            self._ends.hold(execution, partial(self._telling.kept, work, []))
            return
        work.tell(execution)  # before anything that may fail
        try:
            self._forget(work)
            self._kept(execution, size)
            self._told(execution)
            self._events.changed(execution)
        finally:
            if work.sink is not None:
                work.sink.finish()

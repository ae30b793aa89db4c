"""Brings the end of an execution to whoever waits for it: kept first, then told.

The rule: told exactly once, whatever fails on the way. An end that cannot be kept as it was has
failed; if that cannot be kept either it goes without its notices, and at last memory alone has it,
until it can be written.
"""

from __future__ import annotations

from functools import partial

from spear.spearlet.node.ends import End
from spear.spearlet.node.outcomes import spoil
from spear.spearlet.webhooks.delivery import rows_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.records.execution import Execution
    from spear.spearlet.node.ends import Ends, Rows
    from spear.spearlet.node.follower import Follower
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.secrets import Hiding
    from spear.spearlet.node.work import Work

_NOTICES = 2  # times that an end is tried with its notices
_TRIES = 3  # times that it is tried


class Telling:
    """Of one node, on its loop. `forget` takes a work from those that have not ended; `told` hears
    of each end."""

    def __init__(
        self, parts: Parts, ends: Ends, follower: Follower, forget: Callable[[Work], None],
        told: Callable[[Execution], None],
    ) -> None:  # fmt: skip
        self._parts, self._ends, self._follower = parts, ends, follower
        self._forget, self._told = forget, told

    def keep(self, work: Work, hiding: Hiding | None = None, tries: int = 0) -> None:
        """Of a work whose record says how it ended."""
        spoilt = partial(self.spoilt, work, tries=tries + 1)
        try:
            wanted = tries < _NOTICES and any(work.webhooks)
            notices = rows_for(work.execution, *work.webhooks) if wanted else []
        except Exception as error:
            spoilt(error)
            return
        kept = partial(self.kept, work, notices)
        self._ends.keep(End(work.execution, notices, kept, spoilt, work.written, hiding))

    def spoilt(self, work: Work, error: Exception, tries: int = 1) -> None:
        """Its end could not be written down as it was: it has failed then, without its output,
        which may show what it must not."""
        execution = work.execution
        self._parts.log.failure("an end could not be kept", error, execution=execution.id)
        spoil(execution, error, self._parts.redactor)
        if tries < _TRIES:
            self.keep(work, None, tries)
        else:
            self._ends.hold(execution, partial(self.kept, work, []))

    def kept(self, work: Work, notices: Rows) -> None:
        """Whoever waits is told before anything that may fail."""
        execution = work.execution
        work.told_accepted()
        work.tell(execution)
        try:
            self._forget(work)
            self._told(execution)
            self._parts.events.changed(execution)
        finally:
            try:
                if work.sink is not None:
                    self._follower.finish(work)
            finally:
                if notices:
                    self._parts.webhooks.added(notices)

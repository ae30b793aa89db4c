"""Follows guests while they run: their log lines as they come, and their end.

The rule: no task watches a guest, the runtime calls back. An execution has no log before its first
line or its first reader. A guest that logs faster than it is followed waits, and others have their
turn between two looks at it, in which only its end is heard. What it leaves is taken in looks, too,
so no line is lost.
"""

from __future__ import annotations

import asyncio
from functools import partial

from spear.spearlet.node.secrets import COVERED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.runtime.interface import Run
    from spear.spearlet.logs.sink import Sink
    from spear.spearlet.logs.store import LogStore
    from spear.spearlet.node.work import Work

LINES_A_LOOK = 1024  # about 2 ms of the loop
_PAUSE_S = 0.02  # between two looks at the log of a guest that writes
PAUSE_IN_FLOOD_S = 0.005  # where the last look left some


class _Pause:
    """Between two looks; `over` with the next one, or with the end."""

    __slots__ = ("over", "timer")

    timer: asyncio.TimerHandle

    def __init__(self) -> None:
        self.over = False


class Follower:
    """Of one node, on its loop. `ended` hears of the end of each that is followed."""

    def __init__(self, logs: LogStore, ended: Callable[[Work, Run], None]) -> None:
        self._logs, self._ended = logs, ended

    def log_of(self, work: Work) -> Sink:
        if work.sink is None:
            execution = work.execution
            work.sink = self._logs.sink(
                execution.id, execution.task_name, execution.instance_id, resumed=work.recovered
            )
        return work.sink

    def log_anew(self, work: Work) -> None:
        """Lines of this attempt name its instance, where there are lines of an earlier one."""
        if work.sink is not None:
            work.sink.flush()
            work.sink = None
            self.log_of(work)

    def covered(self, work: Work) -> None:
        """Its output is not kept as it was: who reads it looks here for why."""
        self.log_of(work).system(COVERED, "warn")

    def finish(self, work: Work) -> None:
        """No more lines come."""
        if work.sink is not None:
            work.sink.finish()

    def follow(self, work: Work, run: Run) -> None:
        run.call_back(partial(self._heard, work), news=True)

    def pump(self, work: Work, run: Run) -> bool:
        """Some of what came since the last look; whether there may be more."""
        lines = run.read_logs(LINES_A_LOOK)
        if lines:
            self.log_of(work).append(lines)
        return len(lines) == LINES_A_LOOK

    def _heard(self, work: Work, run: Run) -> None:
        if run.done:
            self._ended(work, run)
        else:
            self._look(work, run)

    def _look(self, work: Work, run: Run) -> None:
        """Whatever fails within it, its end is heard."""
        pause_s = _PAUSE_S
        try:
            if self.pump(work, run):
                pause_s = PAUSE_IN_FLOOD_S
            run.read_output()  # nobody follows it: unread it would be news again at the next look
        finally:
            pause, loop = _Pause(), asyncio.get_running_loop()
            pause.timer = loop.call_later(pause_s, self._go_on, work, run, pause)
            run.call_back(partial(self._paused, work, pause))

    def _paused(self, work: Work, pause: _Pause, run: Run) -> None:
        """Its end came in the pause, or something that is for the next look."""
        if pause.over:
            return
        if not run.done:
            run.call_back(partial(self._paused, work, pause))
            return
        pause.over = True
        pause.timer.cancel()
        self._ended(work, run)

    def _go_on(self, work: Work, run: Run, pause: _Pause) -> None:
        pause.over = True
        self.follow(work, run)

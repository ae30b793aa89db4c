"""An accepted execution while its end is not settled: pending until it begins, then with its run.

The rule: whoever waits for an execution, follows or cancels it does so here, so that nobody has to
know whether it has begun. It never changes the record: that is the manager's.
"""

from __future__ import annotations

from spear.errors import InvalidArgument
from spear.runtime.waiting import Latch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from spear.hostcalls.agent import Agent
    from spear.records.usage import Usage
    from spear.runtime.interface import Run, UserStream
    from spear.spearlet.execution.execution import Execution


class Live:
    """`begun` opens once `run` is there. `agent` is who its guest is, where that may ask."""

    __slots__ = ("_agent", "_doom", "begun", "execution", "run")

    def __init__(self, execution: Execution, agent: Agent | None = None) -> None:
        self.execution, self._agent = execution, agent
        self.run: Run | None = None
        self.begun = Latch()
        self._doom: str | None = None

    @property
    def ended(self) -> bool:
        return self.run is not None and self.run.done

    @property
    def usage(self) -> Usage | None:
        """What it used of models until now; None where nothing."""
        shown = self._agent.meter.shown if self._agent else None
        return None if shown is None else shown[0]

    def begin(self, run: Run) -> None:
        self.run = run
        self.begun.open()
        if self._doom is not None:
            run.cancel(self._doom)

    def cancel(self, reason: str = "") -> None:
        """Ends the guest wherever it is; one that has not begun as soon as it does."""
        if self._doom is None:
            self._doom = reason  # before `run` is looked at, as `begin` does it the other way round
        if self.run is not None:
            self.run.cancel(reason)

    def stream(self, id: int, wait_s: float) -> UserStream:
        """The client's end of one of its streams."""
        if self.run is None:
            raise InvalidArgument(
                f"execution {self.execution.id} has not begun: its streams are there once it has"
            )
        return self.run.stream(id, wait_s=wait_s)

    def close_streams(self) -> None:
        """The clients of all its streams are gone."""
        if self.run is not None:
            self.run.close_streams()

    async def changed(self) -> bool:
        """Waits for what can be read, or the end; True once ended."""
        if self.run is None:
            await self.begun
            return self.ended
        return await self.run.changed()

    def __await__(self) -> Generator[Any, Any, None]:
        if self.run is None:
            yield from self.begun.__await__()
            assert self.run is not None
        yield from self.run.__await__()

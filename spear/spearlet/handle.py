"""A started execution in its caller's hands: follow it, wait for it, end it.

The rule: a handle only looks and asks; letting go of one changes nothing. Output and log lines are
taken by the first who reads them, so one reader follows an execution.
"""

from __future__ import annotations

from spear.runtime.waiting import drive, offload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Sequence
    from typing import Any

    from spear.runtime.interface import LogLine
    from spear.spearlet.execution.execution import Execution
    from spear.spearlet.execution.manager import Live
    from spear.spearlet.services import Services

_LOOK_S = 0.25  # a helper thread is held no longer than this by one wait


class Progress:
    """What an execution gave since the last look; `ended` with its last."""

    __slots__ = ("ended", "logs", "output")

    def __init__(self, logs: Sequence[LogLine], output: bytes, ended: bool) -> None:
        self.logs, self.output, self.ended = logs, output, ended


class _Handle:
    def __init__(self, services: Services, live: Live) -> None:
        self._services, self._live = services, live

    @property
    def id(self) -> str:
        return self._live.execution.id

    @property
    def execution(self) -> Execution:
        """The record as it is now."""
        return self._live.execution

    @property
    def ended(self) -> bool:
        return self._live.run.done

    def _take(self) -> Progress:
        """What is there now. The end is asked for first, so that nothing can come after it."""
        run = self._live.run
        ended = run.done
        logs = run.read_logs()
        return Progress(logs, run.read_output(), ended and not logs)


class Handle(_Handle):
    """For a caller with an event loop; awaited, it gives the record once ended."""

    def __await__(self) -> Generator[Any, Any, Execution]:
        return self._services.wait(self._live).__await__()

    async def cancel(self, reason: str = "") -> Execution:
        """Ends the guest wherever it is; the record once ended."""
        return await self._services.cancel(self.id, reason)

    async def follow(self) -> AsyncIterator[Progress]:
        """Output and log lines as they come, until the execution ends."""
        progress = self._take()
        while not progress.ended:
            if progress.logs or progress.output:
                yield progress
            else:
                await offload(lambda: self._live.run.wait(_LOOK_S, events=True))
            progress = self._take()
        yield progress


class SyncHandle(_Handle):
    """The same for a caller without a loop."""

    def wait(self, timeout: float | None = None) -> Execution:
        """The record once ended. TimeoutError after `timeout` seconds; the guest goes on."""
        if not self._live.run.wait(timeout):
            raise TimeoutError(f"execution {self.id} still runs after {timeout} s")
        return drive(self._services.wait(self._live))

    def cancel(self, reason: str = "") -> Execution:
        """Ends the guest wherever it is; the record once ended."""
        return drive(self._services.cancel(self.id, reason))

    def follow(self) -> Iterator[Progress]:
        """Output and log lines as they come, until the execution ends."""
        progress = self._take()
        while not progress.ended:
            if progress.logs or progress.output:
                yield progress
            else:
                self._live.run.wait(events=True)
            progress = self._take()
        yield progress

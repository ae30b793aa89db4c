"""A started execution in its caller's hands: follow it, wait for it, end it.

The rule: a handle only looks and asks; letting go of one changes nothing. Output and log lines are
taken by the first who reads them, so one reader follows an execution.
"""

from __future__ import annotations

from spear.runtime.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Sequence
    from typing import Any

    from spear.runtime.interface import LogLine, UserStream
    from spear.spearlet.execution.execution import Execution
    from spear.spearlet.execution.live import Live
    from spear.spearlet.services import Services


class Progress:
    """What an execution gave since the last look; `ended` with its last.

    `output` is what it wrote to stdout, byte for byte. Each of `logs` says its `stream`: `log`,
    `stderr` or, unless it was started with log_stdout=False, `stdout`: a line that `output` has
    as well. Who shows both leaves those lines out.
    """

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
        """The record as it is now: complete as soon as the guest has ended."""
        return self._services.record(self._live)

    @property
    def ended(self) -> bool:
        return self._live.ended

    def close_streams(self) -> None:
        """The clients of all its user streams are gone: the guest sees a hang-up on each."""
        self._live.close_streams()

    def take(self) -> Progress:
        """What there is to read now, without waiting. The end is asked for first, so that nothing
        can come after it."""
        run = self._live.run
        if run is None:
            return Progress((), b"", False)
        ended = run.done
        logs = self._services.logs(run)
        return Progress(logs, run.read_output(), ended and not logs)


class SyncUserStream:
    """The client's end of a user stream for a caller without a loop; as interface.UserStream."""

    __slots__ = ("_stream", "close", "connect", "fail", "receive_nowait", "send_nowait")

    def __init__(self, stream: UserStream) -> None:
        self._stream = stream
        self.connect, self.fail, self.close = stream.connect, stream.fail, stream.close
        self.send_nowait, self.receive_nowait = stream.send_nowait, stream.receive_nowait

    @property
    def id(self) -> int:
        return self._stream.id

    @property
    def state(self) -> str:
        return self._stream.state

    def send(self, frame: bytes) -> None:
        """Waits until the guest has made room."""
        drive(self._stream.send(frame))

    def receive(self) -> bytes | None:
        """The next frame, waited for; None once the stream is over."""
        return drive(self._stream.receive())


class Handle(_Handle):
    """For a caller with an event loop; awaited, it gives the record once ended."""

    def __await__(self) -> Generator[Any, Any, Execution]:
        return self.wait().__await__()

    async def wait(self, timeout: float | str | None = None) -> Execution:
        """The record once ended. TimeoutError after `timeout`, in seconds or text ("1s"); the
        guest goes on."""
        return await self._services.wait(self._live, timeout)

    async def cancel(self, reason: str = "") -> Execution:
        """Ends the guest wherever it is; the record once ended."""
        return await self._services.cancel(self.id, reason)

    def stream(self, id: int, *, wait_s: float = 30.0) -> UserStream:
        """The client's end of the guest's user stream `id`, whichever side is first: SSF v1 frames
        both ways. Frames wait up to `wait_s` for a guest that has not opened it."""
        return self._live.stream(id, wait_s)

    async def follow(self) -> AsyncIterator[Progress]:
        """Output and log lines as they come, until the execution ends."""
        progress = self.take()
        while not progress.ended:
            if progress.logs or progress.output:
                yield progress
            else:
                await self._live.changed()
            progress = self.take()
        yield progress


class SyncHandle(_Handle):
    """The same for a caller without a loop."""

    def wait(self, timeout: float | str | None = None) -> Execution:
        """As Handle.wait."""
        return drive(self._services.wait(self._live, timeout))

    def cancel(self, reason: str = "") -> Execution:
        """Ends the guest wherever it is; the record once ended."""
        return drive(self._services.cancel(self.id, reason))

    def stream(self, id: int, *, wait_s: float = 30.0) -> SyncUserStream:
        """As Handle.stream."""
        return SyncUserStream(self._live.stream(id, wait_s))

    def follow(self) -> Iterator[Progress]:
        """Output and log lines as they come, until the execution ends."""
        progress = self.take()
        while not progress.ended:
            if progress.logs or progress.output:
                yield progress
            else:
                drive(self._live.changed())
            progress = self.take()
        yield progress

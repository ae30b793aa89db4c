"""Runs guests on fibers over native worker threads; see executor.pyx for the rules."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, final

from spear._core.door import Failed, Handler
from spear._core.engine import Module
from spear._core.instance import Instance
from spear._core.outcome import LogLine, Outcome

@final
class Changed:
    """What `Run.changed` gives: to be awaited or, by the driver of a coroutine, waited for."""

    def wait(self, timeout_s: float | None = None) -> bool: ...
    def __await__(self) -> Generator[Any, Any, bool]: ...

@final
class Run:
    """One run of a module; made by `Executor.start`, waited for once or often, from any thread."""

    @property
    def done(self) -> bool: ...
    def wait(self, timeout_s: float | None = None, *, events: bool = False) -> bool:
        """True once ended. Releases the GIL. With `events`, also returns (False) as soon as new
        output or log lines can be read. KeyboardInterrupt passes through."""

    def changed(self) -> Changed:
        """Awaitable: True once ended, False as soon as new output or log lines can be read."""

    def cancel(self, reason: str = "") -> bool:
        """Ends the guest wherever it is; False if it had ended already."""

    def read_logs(self, count_max: int = 2048) -> list[LogLine]:
        """Takes the lines logged since the last call, oldest first."""

    def read_output(self) -> bytes:
        """Takes what the guest wrote to stdout since the last call."""

    @property
    def outcome(self) -> Outcome:
        """Valid once done; RuntimeError before."""

    @property
    def output(self) -> bytes:
        """All of stdout, whether or not it was read before. Valid once done."""

    def __await__(self) -> Generator[Any, Any, Outcome]: ...

@final
class Batch:
    """What became of `Executor.run_many`."""

    duration_ns: int  # of the whole batch
    def __len__(self) -> int: ...
    @property
    def counts(self) -> dict[str, int]:
        """How many runs ended by each cause."""
    @property
    def completed(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def exit_codes(self) -> list[int]: ...
    @property
    def durations_ns(self) -> list[int]: ...

@final
class Executor:
    """`workers` native threads (0: one per core); at most `guests_max` live guests."""

    def __init__(
        self,
        *,
        workers: int = 0,
        guests_max: int = 1000,
        epoch_tick_ms: int = 10,
        handlers: Mapping[int, Handler] | None = None,
        handler_failed: Failed | None = None,
    ) -> None:
        """`handlers` as for `serve`."""

    def serve(self, handlers: Mapping[int, Handler], *, failed: Failed | None = None) -> None:
        """Answers the calls that guests post, by operation code; calls without a handler answer
        -ENOSYS. The loop that runs here is the one that serves or, if none does, the one that runs
        where a guest that posts is started or, if none does, a thread of the executor's own; that
        thread also takes over when the loop is closed. A handler is a plain function and gives a
        status, bytes or both, or an awaitable of that if it must wait. One that raises answers
        -EIO; `failed` is told then."""

    def start(
        self,
        module: Module,
        *,
        entry: str = "_start",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_ns: int = 60_000_000_000,
        memory_bytes_max: int = 64 << 20,
        output_bytes_max: int = 16 << 20,
        log_bytes_max: int = 10 << 20,
        log_lines_max: int = 2048,
        log_stdout: bool = True,
        inline: bool = False,
    ) -> Run:
        """Starts one fresh instance of `module`. With `inline` its first slice runs on this
        thread, with the GIL released. The last `log_lines_max` lines (up to 262,144) are kept
        for a reader; `timeout_ns` counts from now. Raises NodeBusy at `guests_max`, NodeClosed
        after close."""

    def run_many(
        self,
        module: Module,
        count: int,
        *,
        entry: str = "_start",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_ns: int = 60_000_000_000,
        memory_bytes_max: int = 64 << 20,
        output_bytes_max: int = 16 << 20,
        log_bytes_max: int = 10 << 20,
    ) -> Batch:
        """Runs `count` fresh instances with the same input, one lane a worker, and waits for all.

        No Python runs between them; a guest that waits makes room for the next, up to
        `guests_max`. `timeout_ns` counts from each run's own start. Output counts against its
        limit but is not kept, nor is the log. KeyboardInterrupt ends what has not ended."""

    def instantiate(
        self,
        module: Module,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        timeout_ns: int = 60_000_000_000,
        memory_bytes_max: int = 64 << 20,
    ) -> Instance:
        """A warm instance: made once, its functions called often; see Instance."""

    def stats(self) -> dict[str, int]: ...
    def close(self, grace_s: float = 0.0) -> None:
        """Takes no more; waits up to `grace_s`, then ends what still runs. Idempotent."""

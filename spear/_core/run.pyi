"""One guest in its caller's hands; see run.pyx for the rules."""

from collections.abc import Callable, Generator
from typing import Any, final

from spear._core.endpoints import UserStream
from spear._core.outcome import LogLine, Outcome

class ExecutorOwner: ...

@final
class Changed:
    """What `Run.changed` gives: to be awaited or, by the driver of a coroutine, waited for."""

    def wait(self, timeout_s: float | None = None) -> bool: ...
    def __await__(self) -> Generator[Any, Any, bool]: ...

@final
class Run:
    """One run of a module, made by `Executor.start` and `Function.start`; waited for once or
    often, from any thread."""

    @property
    def done(self) -> bool: ...
    def wait(self, timeout_s: float | None = None, *, events: bool = False) -> bool:
        """True once ended. Releases the GIL. With `events`, also returns (False) as soon as new
        output or log lines can be read. KeyboardInterrupt passes through."""

    def changed(self) -> Changed:
        """Awaitable: True once ended, False as soon as new output or log lines can be read."""

    def call_back(self, callback: Callable[[Run], object], *, news: bool = False) -> None:
        """This thread's event loop calls `callback(run)` once: at the end or, with `news`, also as
        soon as new output or log lines can be read. Never before this returns. The run is kept
        until then. It may be called without cause: look at `done`. Cheaper than awaiting: no task,
        no future, no turn of the loop."""

    def cancel(self, reason: str = "", said: str = "") -> bool:
        """Ends the guest wherever it is; False if it had ended already. Its log says so: in the
        words of `said`, by default `Terminate execution` and the reason."""

    def read_logs(self, count_max: int = 2048) -> list[LogLine]:
        """Takes the lines logged since the last call, oldest first."""

    def read_output(self) -> bytes:
        """Takes what the guest wrote to stdout since the last call."""

    def stream(self, id: int, *, wait_s: float = 30.0) -> UserStream:
        """The client's end of the guest's user stream `id`, whichever side is first. Frames wait
        up to `wait_s` for a guest that has not opened it. Raises QueueFull at 64 streams."""

    def close_streams(self) -> None:
        """The clients are gone: every stream is closed and the guest told; the ids are free for
        another session."""

    @property
    def outcome(self) -> Outcome:
        """Valid once done; RuntimeError before."""

    @property
    def completed(self) -> bool:
        """Whether it has ended, and well: its outcome's status."""

    def fill(self, record: Any) -> None:
        """Sets on `record` what is in the outcome under the same names: started_ns, duration_ns,
        cpu_ns, fuel, memory_bytes, log_lines, log_lost, log_truncated; exit_code, None where it
        did not exit by itself; finished_ns; and, where it completed, value, a tuple. RuntimeError
        before its end."""

    @property
    def value(self) -> Any:
        """What the called function gave: a number, a tuple of several, or None. RuntimeError
        before the end, and where it did not return."""

    @property
    def output(self) -> bytes:
        """All of stdout, whether or not it was read before. Valid once done."""

    def __await__(self) -> Generator[Any, Any, Outcome]: ...

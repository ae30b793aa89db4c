"""How code is run: the one interface of every runtime.

The rule: a runtime decides nothing about executions, retries or names; it loads bytes and runs
them within the limits of an Invocation. Implementations: wasm/runtime.py and, for tests, stub.py;
one contract suite runs over all. Only type checkers import this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Protocol

from spear.runtime.invocation import Invocation


class LogLine(Protocol):
    """One line a guest logged; `level` 0 (trace) to 4 (error), `stream` log, stdout or stderr."""

    @property
    def seq(self) -> int: ...
    @property
    def time_ms(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def message(self) -> str: ...


class Frame(Protocol):
    """One frame of a backtrace; `offset` is in bytes into the module, None where
    the engine does not know it."""

    @property
    def function(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def offset(self) -> int | None: ...


class Outcome(Protocol):
    """How a run ended. `status`: completed, failed, terminated or timeout; `cause`: exit, trap,
    deadline, cancelled, output_limit, instantiate, fuel or no_memory; `exit_code` is -1 where the
    guest did not exit by itself; `cpu_ns` is the time it ran, `fuel` what it used where that is
    counted."""

    @property
    def status(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def message(self) -> str: ...
    @property
    def trap(self) -> str: ...
    @property
    def backtrace(self) -> Sequence[Frame]: ...
    @property
    def started_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def log_lines(self) -> int: ...
    @property
    def log_lost(self) -> int: ...
    @property
    def log_truncated(self) -> bool: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def cpu_ns(self) -> int: ...
    @property
    def fuel(self) -> int | None: ...


class UserStream(Protocol):
    """The client's end of one of a run's streams: whole SSF v1 frames both ways; see guest ABI 9.
    `state`: init, connected, closed or error. `send` waits for room, `receive` for a frame (None
    once the stream is over); both wait as a Run does, with a loop or without."""

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> str: ...
    def connect(self) -> None: ...
    def send_nowait(self, frame: bytes) -> None: ...
    def send(self, frame: bytes) -> Coroutine[Any, Any, None]: ...
    def receive_nowait(self) -> bytes | None: ...
    def receive(self) -> Coroutine[Any, Any, bytes | None]: ...
    def fail(self) -> None: ...
    def close(self) -> None: ...


class Run(Protocol):
    """One run; may be waited for often, from any thread.

    Awaited where a loop runs on the thread it waits on that loop; elsewhere it yields itself, and
    whoever drives the coroutine calls `wait` (see waiting.drive).
    """

    @property
    def done(self) -> bool: ...
    def wait(self, timeout_s: float | None = None, *, events: bool = False) -> bool:
        """True once ended; with `events` it returns also when logs or output can be read."""

    def changed(self) -> Awaitable[bool]:
        """Awaited, True once ended, else False as soon as logs or output can be read. It holds no
        thread; without a loop it yields what has a `wait`, like the Run itself."""

    def cancel(self, reason: str = "", said: str = "") -> bool:
        """Ends the guest wherever it is; False if it had ended. The first reason counts; the
        guest's log says `said`, by default that the execution is terminated."""

    def stream(self, id: int, *, wait_s: float = 30.0) -> UserStream:
        """The client's end of the guest's stream `id`, whichever side is first; frames wait up to
        `wait_s` for a guest that has not opened it."""

    def close_streams(self) -> None:
        """The clients are gone: every stream is closed, the guest told, and the ids are free."""

    def read_logs(self, count_max: int = 2048) -> Sequence[LogLine]:
        """Takes the lines logged since the last call, oldest first, of those still kept."""

    def read_output(self) -> bytes:
        """Takes what was written to stdout since the last call."""

    def call_back(self, callback: Callable[[Any], object], *, news: bool = False) -> None:
        """The loop of this thread calls `callback(run)` once: at the end or, with `news`, also as
        soon as logs or output can be read; never before this returns, and perhaps for nothing."""

    @property
    def completed(self) -> bool:
        """Whether it is done, and well."""

    def fill(self, record: Any) -> None:
        """Sets on `record` what is in the outcome under the same names: started_ns, duration_ns,
        cpu_ns, fuel, memory_bytes, log_lines, log_lost, log_truncated; exit_code, None where it
        did not exit by itself; finished_ns; and, where it completed, value, a tuple. Valid once
        done."""

    @property
    def value(self) -> Any:
        """What a called function gave: a number, a tuple of several, or None. Valid once done."""

    @property
    def outcome(self) -> Outcome:
        """Valid once done."""

    @property
    def output(self) -> bytes:
        """All of stdout, whether or not it was read before. Valid once done."""

    def __await__(self) -> Generator[Any, Any, Any]: ...


class WarmFunction(Protocol):
    """An exported function of a warm instance."""

    def start(
        self, *args: int | float, stdin: bytes = b"", timeout_ns: int | None = None,
        context: object = None,
    ) -> Run:  # fmt: skip
        """Raises InvalidArgument where the arguments are not the function's, RuntimeError while
        another call into the instance is under way."""


class WarmInstance(Protocol):
    """An instance that is made once and called often; spent after a call that did not return."""

    def function(self, name: str) -> WarmFunction:
        """Raises InvalidArgument where it has none of that name."""

    def close(self) -> None: ...


class Program(Protocol):
    """Loaded code, immutable and shared by its runs. `warning` is "" or why the cache failed; a
    `metered` one counts fuel; `posted` names the calls of it that Python answers. Of guests of a
    `self_contained` one nothing is seen before they end, but for what their directories show."""

    @property
    def digest(self) -> str: ...
    @property
    def shape(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def warning(self) -> str: ...
    @property
    def unserved(self) -> Sequence[str]: ...
    @property
    def metered(self) -> bool: ...
    @property
    def posted(self) -> Sequence[str]: ...
    @property
    def self_contained(self) -> bool: ...


class Runtime(Protocol):
    """Loads and runs programs of one kind."""

    def meters(self, wanted: bool) -> bool:
        """Whether a program is loaded metered when that is wanted, or not; it may be always."""

    def load(self, wasm: bytes, *, metered: bool = False) -> Program:
        """Releases the GIL where it is slow. Raises ModuleInvalid, ModuleLimit."""

    def start(self, program: Any, invocation: Invocation) -> Run:
        """Raises NodeBusy, NodeClosed, ModuleInvalid (no such entry), ModuleLimit."""

    def begin(
        self, program: Any, like: Invocation, stdin: bytes, execution_id: str, timeout_ns: int,
        priority: int, inline: bool,
    ) -> Run:  # fmt: skip
        """As `start`, of one more run that is `like` others but for this; what they have in common
        is settled with the first. Not for a program that is posted. Raises as `start`."""

    def serve(self, program: Any) -> None:
        """The event loop that runs here answers the calls of such programs, if none does yet: for
        who goes on to `warm` on a thread that has none."""

    def warm(self, program: Any, invocation: Invocation) -> WarmInstance:
        """Makes an instance that stays, on the calling thread. Raises GuestTrap where it cannot be
        initialized, InvalidArgument where the runtime has none."""

    def stats(self) -> dict[str, int]: ...
    def close(self, grace_s: float = 0.0) -> None:
        """Takes no more, waits up to `grace_s`, then ends what still runs. Idempotent."""

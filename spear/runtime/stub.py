"""A runtime without an engine: the guest is a Python function, or the test itself.

The rule: it keeps the interface to the letter, and nothing happens by itself. `guest` is called
at start with the run; what it does not finish there, the test finishes, from any thread.
"""

from __future__ import annotations

import hashlib
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from spear.errors import InvalidArgument, ModuleInvalid, NodeBusy, NodeClosed
from spear.runtime.waiting import Latch, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator

    from spear.runtime.invocation import Invocation

MAGIC = b"stub"
_FILLED = (
    "started_ns", "duration_ns", "cpu_ns", "fuel", "memory_bytes", "log_lines", "log_lost",
    "log_truncated",
)  # fmt: skip


class StubProgram:
    """Bytes that begin with `stub`; with `stub posts`, of a guest that may call other tasks."""

    shape, source, warning = "small", "compiled", ""
    unserved: tuple[str, ...] = ()

    def __init__(self, wasm: bytes, *, metered: bool = False) -> None:
        self.metered = metered
        if not wasm.startswith(MAGIC):
            raise ModuleInvalid(f"expected it to begin with {MAGIC!r}, found {wasm[:4]!r}")
        self.posted = ("spear.task_invoke",) if wasm.startswith(MAGIC + b" posts") else ()
        self.self_contained = not self.posted
        self.digest = hashlib.sha256(wasm).hexdigest()


class StubRun:
    """One run; `write`, `log` and `finish` are the guest's side."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.output = b""
        self._unread_from = 0
        self._lines: list[SimpleNamespace] = []
        self._line_count = self._lost = 0
        self._outcome: SimpleNamespace | None = None
        self._changed = threading.Condition()
        self._next_change = Latch()

    def write(self, data: bytes) -> None:
        with self._changed:
            self.output += data
            self._tell()

    def log(self, message: str, level: int = 2, stream: str = "log") -> None:
        with self._changed:
            self._line_count += 1
            line = SimpleNamespace(seq=self._line_count, time_ms=0, level=level, stream=stream)
            line.message = message
            self._lines.append(line)
            full = len(self._lines) > self.invocation.log_lines_max
            if full and not self.invocation.log_waits:  # a test's guest cannot be made to wait
                del self._lines[0]
                self._lost += 1
            self._tell()

    def finish(self, status: str = "completed", cause: str = "exit", **fields: Any) -> bool:
        """Ends the run; False if it had ended already."""
        with self._changed:
            if self._outcome is not None:
                return False
            known: dict[str, Any] = {
                "status": status, "cause": cause, "exit_code": 0 if status == "completed" else -1,
                "message": "", "trap": "", "backtrace": (), "started_ns": 1_000, "duration_ns": 500,
                "memory_bytes": 65536, "log_lines": self._line_count,
                "log_lost": self._lost, "log_truncated": False, "output_bytes": len(self.output),
                "cpu_ns": 400, "fuel": None,
            }  # fmt: skip
            self._outcome = SimpleNamespace(**known | fields)
            self._tell()
        return True

    def _tell(self) -> None:
        self._changed.notify_all()
        told, self._next_change = self._next_change, Latch()
        told.open()

    @property
    def _news(self) -> bool:
        return self.done or bool(self._lines) or self._unread_from < len(self.output)

    @property
    def done(self) -> bool:
        return self._outcome is not None

    def wait(self, timeout_s: float | None = None, *, events: bool = False) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._news if events else self.done, timeout_s)
        return self.done

    async def changed(self) -> bool:
        latch = self._next_change
        while not self._news:
            await latch
            latch = self._next_change
        return self.done

    def call_back(self, callback: Callable[[StubRun], object], *, news: bool = False) -> None:
        loop = running_loop()
        if loop is None:
            raise RuntimeError("no event loop runs on this thread: wait for the run instead")
        with self._changed:
            told = self._news if news else self.done
            waits = not told and self._next_change.tell(_threadsafe(loop, callback, self))
        if not waits:
            loop.call_soon(callback, self)

    @property
    def value(self) -> None:
        """The stub has no functions."""

    def stream(self, id: int, *, wait_s: float = 30.0) -> NoReturn:
        raise InvalidArgument(f"a run of the stub has no stream {id}: its guest is the test")

    def close_streams(self) -> None:
        """There is none."""

    def cancel(self, reason: str = "", said: str = "") -> bool:
        return self.finish("terminated", "cancelled", message=reason)

    def read_logs(self, count_max: int = 2048) -> list[SimpleNamespace]:
        with self._changed:
            taken, self._lines = self._lines[:count_max], self._lines[count_max:]
        return taken

    def read_output(self) -> bytes:
        with self._changed:
            taken, self._unread_from = self.output[self._unread_from :], len(self.output)
        return taken

    @property
    def outcome(self) -> SimpleNamespace:
        if self._outcome is None:
            raise RuntimeError("the run has not ended")
        return self._outcome

    @property
    def completed(self) -> bool:
        return self._outcome is not None and self._outcome.status == "completed"

    def fill(self, record: Any) -> None:
        outcome = self.outcome
        for name in _FILLED:
            setattr(record, name, getattr(outcome, name))
        record.finished_ns = outcome.started_ns + outcome.duration_ns
        record.exit_code = outcome.exit_code if outcome.cause == "exit" else None
        if self.completed:
            record.value = ()

    def __await__(self) -> Generator[Any, Any, SimpleNamespace]:
        latch = self._next_change  # before the look, so that no change falls between
        while not self.done:
            yield from latch.__await__()
            latch = self._next_change
        return self.outcome


def _threadsafe(
    loop: AbstractEventLoop, callback: Callable[[StubRun], object], run: StubRun
) -> Callable[[], None]:
    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback, run)

    return wake


class StubRuntime:
    """At most `guests_max` live runs; all that were started are in `runs`."""

    def __init__(
        self, guest: Callable[[StubRun], object] | None = None, *, guests_max: int = 1000
    ) -> None:
        self.runs: list[StubRun] = []
        self.loads = 0
        self._guest = guest
        self._guests_max = guests_max
        self._closed = False

    def meters(self, wanted: bool) -> bool:
        return wanted

    def load(self, wasm: bytes, *, metered: bool = False) -> StubProgram:
        self.loads += 1
        return StubProgram(wasm, metered=metered)

    def start(self, program: StubProgram, invocation: Invocation) -> StubRun:
        if self._closed:
            raise NodeClosed("the node is closed")
        if self.stats()["live"] >= self._guests_max:
            raise NodeBusy(f"the node runs {self._guests_max} guests, its maximum")
        run = StubRun(invocation)
        self.runs.append(run)
        if self._guest is not None:
            self._guest(run)
        return run

    def begin(
        self, program: StubProgram, like: Invocation, stdin: bytes, execution_id: str,
        timeout_ns: int, priority: int, inline: bool,
    ) -> StubRun:  # fmt: skip
        invocation = like.anew(
            stdin=stdin,
            execution_id=execution_id,
            timeout_ns=timeout_ns,
            priority=priority,
            inline=inline,
        )
        return self.start(program, invocation)

    def serve(self, program: StubProgram) -> None:
        """Its guests call nobody."""

    def warm(self, program: StubProgram, invocation: Invocation) -> NoReturn:
        raise InvalidArgument("the stub has no warm instances")

    def stats(self) -> dict[str, int]:
        return {"live": sum(not run.done for run in self.runs)}

    def close(self, grace_s: float = 0.0) -> None:
        self._closed = True
        for run in self.runs:
            run.wait(grace_s)
            run.cancel("the node closes")

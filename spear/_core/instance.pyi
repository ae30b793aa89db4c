"""Warm instances: made once, their exported functions called often; see instance.pyx."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from spear._core.engine import Module
from spear._core.executor import Executor
from spear._core.objstore import ObjectStore
from spear._core.outcome import LogLine
from spear._core.run import Run

Value = int | float

@final
class Function:
    """An exported function of a warm instance."""

    name: str
    @property
    def signature(self) -> str:
        """Such as "(i32, i32) -> i32"."""

    def __call__(self, *args: Value) -> Value | tuple[Value, ...] | None:
        """Calls it with the GIL released: on this thread, in place where the module imports
        nothing that may wait. i32 and i64 take signed or unsigned values and give signed ones.
        Raises GuestTrap (with its outcome), InvalidArgument, and RuntimeError while another call
        into the instance is under way."""

    def start(
        self,
        *args: Value,
        stdin: bytes = b"",
        timeout_ns: int | None = None,
        inline: bool = False,
        context: Any = None,
    ) -> Run:
        """Starts the call on a fiber, with an output and a log of its own; the Run's `value` is
        what it gave. Its handlers' `context` is the instance's unless given here. Raises as a call
        does, and NodeBusy."""

@final
class Instance:
    """A warm instance of a module. After a trap, an exit or at a deadline a shared one is spent:
    make another."""

    def __init__(
        self,
        executor: Executor,
        module: Module,
        *,
        isolation: str = "shared",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        timeout_ns: int = 60_000_000_000,
        memory_bytes_max: int = 64 << 20,
        output_bytes_max: int = 16 << 20,
        log_bytes_max: int = 10 << 20,
        fuel: int | None = None,
        objects: ObjectStore | None = None,
        task: str = "",
        object_grants: Iterable[str] = (),
        context: Any = None,
        log_waits: bool = False,
    ) -> None:
        """Runs `_initialize` where there is one. With isolation `shared` calls find the memory as
        the last one left it; with `fresh` each has an instance of its own, initialized anew.
        `timeout_ns`, `fuel` and the limits in bytes are for each call. Raises InvalidArgument,
        GuestTrap where it cannot be initialized."""

    def function(self, name: str) -> Function: ...
    @property
    def memory_bytes(self) -> int: ...
    def read_logs(self) -> list[LogLine]:
        """Takes what calls in place logged; one that was started has its own log."""

    def read_output(self) -> bytes: ...
    def close(self) -> None: ...

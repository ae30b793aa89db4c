"""Warm instances: made once, their exported functions called often; see instance.pyx."""

from collections.abc import Iterable, Mapping, Sequence
from typing import final

from spear._core.engine import Module
from spear._core.executor import Executor
from spear._core.objstore import ObjectStore
from spear._core.outcome import LogLine

Value = int | float

@final
class Function:
    """An exported function of a warm instance."""

    name: str
    signature: str  # "(i32, i32) -> i32"
    def __call__(self, *args: Value) -> Value | tuple[Value, ...] | None:
        """Calls it on this thread with the GIL released. i32 and i64 take signed or unsigned
        values and give signed ones. Raises GuestTrap (with its outcome), InvalidArgument,
        and RuntimeError for a call from a second thread at the same time."""

@final
class Instance:
    """A warm instance of a module. After a trap or at a deadline it is spent: make another."""

    def __init__(
        self,
        executor: Executor,
        module: Module,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        timeout_ns: int = 60_000_000_000,
        memory_bytes_max: int = 64 << 20,
        objects: ObjectStore | None = None,
        task: str = "",
        object_grants: Iterable[str] = (),
    ) -> None:
        """Runs `_initialize` where there is one. `timeout_ns` is for each call;
        `objects`, `task` and `object_grants` are as in `Executor.start`. Raises
        InvalidArgument for a module that imports what may wait (sleep, poll)."""

    def function(self, name: str) -> Function: ...
    @property
    def memory_bytes(self) -> int: ...
    def read_logs(self) -> list[LogLine]: ...
    def read_output(self) -> bytes: ...
    def close(self) -> None: ...

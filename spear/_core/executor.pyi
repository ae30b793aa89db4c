"""Runs guests on fibers over native worker threads; see executor.pyx for the rules."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from spear._core.batches import Batch
from spear._core.door import Failed, Handler
from spear._core.engine import Module
from spear._core.filetable import Directory
from spear._core.instance import Instance
from spear._core.objstore import ObjectStore
from spear._core.run import ExecutorOwner, Run
from spear._core.trace import Step

@final
class Launch:
    """A start that is made often, from `Executor.prepare`; it keeps no module alive."""

    def fits(self, executor: Executor, module: Module) -> bool:
        """Whether it was made by this executor for this module."""

    def start(
        self, module: Module, stdin: bytes, execution_id: str, timeout_ns: int, priority: int,
        inline: bool, context: Any = None,
    ) -> Run:  # fmt: skip
        """As `Executor.start` with what was prepared and this. Raises InvalidArgument where it was
        prepared for another module."""

@final
class Executor(ExecutorOwner):
    """`workers` native threads (0: one per core); at most `guests_max` live guests.

    With a `seed` the executor is deterministic: guests live in a world of their own, whose clock
    only work moves (one nanosecond a unit of fuel, and on to what is due when nobody can run),
    whose randomness comes from the seed, and which is stepped by whoever waits for a run; it has no
    workers. Between waits it stands still. `strategy` is `round_robin` (all are of one priority) or
    `priority`. Directories, streams, handlers, batches and warm instances are refused there.
    """

    def __init__(
        self,
        *,
        workers: int = 0,
        guests_max: int = 1000,
        epoch_tick_ms: int = 10,
        seed: int | None = None,
        strategy: str = "round_robin",
        handlers: Mapping[int, Handler] | None = None,
        handler_failed: Failed | None = None,
    ) -> None:
        """`handlers` as for `serve`."""

    def serve(self, handlers: Mapping[int, Handler], *, failed: Failed | None = None) -> None:
        """Answers the calls that guests post, by operation code; calls without a handler answer
        -ENOSYS. The loop that runs here is the one that serves or, if none does, the one that runs
        where a guest that posts is started or, if none does, a thread of the executor's own; that
        thread also takes over when the loop is closed. A handler is a plain function and gives a
        status, bytes or both, or a Handle, or an awaitable of that if it must wait. One that raises
        answers -EIO; `failed` is told then."""

    def start(
        self,
        module: Module,
        *,
        entry: str = "_start",
        call_args: tuple[int | float, ...] = (),
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_ns: int = 60_000_000_000,
        memory_bytes_max: int = 64 << 20,
        output_bytes_max: int = 16 << 20,
        log_bytes_max: int = 10 << 20,
        log_lines_max: int = 2048,
        log_waits: bool = False,
        log_stdout: bool = True,
        fuel: int | None = None,
        priority: int = 128,
        dirs: Sequence[Directory] = (),
        descriptors_max: int = 1024,
        inline: bool = False,
        objects: ObjectStore | None = None,
        task: str = "",
        object_grants: Iterable[str] = (),
        execution_id: str = "",
        context: Any = None,
    ) -> Run:
        """Starts one fresh instance of `module` and calls its function `entry` with `call_args`,
        after `_initialize` where there is one; what it gave is the Run's `value`. `fuel` limits
        what a metered module may use; `priority` is 0 (first) to 255. With `inline` its first
        slice runs on this thread, with the GIL released. The last `log_lines_max` lines (up to
        262,144) are kept for a reader; with `log_waits` all are, and with so many unread ones the
        guest waits until they are read; a line then counts 32 bytes more towards `log_bytes_max`.
        `timeout_ns` counts from now. WASI descriptors 3, 4, ...
        are `dirs`; the guest may have `descriptors_max` (16 to 65,536) in all. With `objects` the
        guest's object calls reach that store as `task`, and those of the tasks in
        `object_grants`; without, they answer -ENOSYS. `context` is what handlers get with each
        call of it, and is kept with the Run. Raises NodeBusy at `guests_max`, NodeClosed
        after close."""

    def prepare(
        self,
        module: Module,
        *,
        entry: str = "_start",
        call_args: tuple[int | float, ...] = (),
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        memory_bytes_max: int = 64 << 20,
        output_bytes_max: int = 16 << 20,
        log_bytes_max: int = 10 << 20,
        log_lines_max: int = 2048,
        log_waits: bool = False,
        log_stdout: bool = True,
        fuel: int | None = None,
        dirs: Sequence[Directory] = (),
        descriptors_max: int = 1024,
        objects: ObjectStore | None = None,
        task: str = "",
        object_grants: Iterable[str] = (),
    ) -> Launch:
        """What many starts of `module` have in common, checked once. Raises what `start` raises of
        these."""

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
        fuel: int | None = None,
        objects: ObjectStore | None = None,
        task: str = "",
        object_grants: Iterable[str] = (),
    ) -> Batch:
        """Runs `count` fresh instances with the same input, one lane a worker, and waits for all.

        No Python runs between them; a guest that waits makes room for the next, up to
        `guests_max`. `timeout_ns` counts from each run's own start. Output counts against its
        limit but is not kept, nor is the log. KeyboardInterrupt ends what has not ended."""

    def instantiate(
        self,
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
    ) -> Instance:
        """A warm instance: made once, its functions called often; see Instance."""

    @property
    def digest(self) -> int:
        """Deterministic executors: of all steps so far, 64 bits. InvalidArgument elsewhere, as for
        all about steps."""

    @property
    def step_count(self) -> int: ...
    @property
    def diverged(self) -> int:
        """The number of the first step that was not the expected one; 0: none."""

    def record_steps(self) -> None:
        """From now on each step is kept until it is taken."""

    def take_steps(self) -> list[Step]:
        """Takes the steps recorded since the last call, oldest first."""

    def expect_steps(self, digests: Sequence[int]) -> None:
        """The digests that the steps from the first on must have; at the first that differs all
        guests are cancelled, and `diverged` says which. Before the first step only."""

    def stats(self) -> dict[str, int]:
        """Since the start: `started`, `ended` and `ended_<cause>`, `polls` of workers, `stolen`
        of them, `woken`, `clock_turns` (in which something was due), and of ended guests `slices`
        (used up), `parks`, `cpu_ns`. Now: `live`, `queued` (entries, lanes of batches and stale
        ones included), `busy_workers`, `idle_workers`."""

    def close(self, grace_s: float = 0.0) -> None:
        """Takes no more; waits up to `grace_s`, then ends what still runs. Idempotent."""

"""Runs wasm modules: the runtime interface over the native engine and executor.

The rule: nothing native is imported or made before the first module is loaded.
"""

from __future__ import annotations

from _thread import allocate_lock

from spear.errors import EngineUnavailable, NodeClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.engine import Engine, Module
    from spear._core.executor import Executor, Run
    from spear.runtime.invocation import Invocation


class WasmRuntime:
    """`guests_max` live guests on `workers` native threads (0: one a core); compiled code is kept
    in `cache_dir` (None: nowhere)."""

    def __init__(self, *, guests_max: int, workers: int, cache_dir: str | None) -> None:
        self._guests_max, self._workers, self._cache_dir = guests_max, workers, cache_dir
        self._engine: Engine | None = None
        self._executor: Executor | None = None
        self._lock = allocate_lock()
        self._closed = False

    def load(self, wasm: bytes) -> Module:
        return self._engine_ready().load(wasm, cache_dir=self._cache_dir)

    def start(self, program: Module, invocation: Invocation) -> Run:
        return self._executor_ready().start(
            program,
            entry=invocation.entry,
            args=invocation.args,
            env=invocation.env,
            stdin=invocation.stdin,
            timeout_ns=invocation.timeout_ns,
            memory_bytes_max=invocation.memory_bytes_max,
            output_bytes_max=invocation.output_bytes_max,
            log_bytes_max=invocation.log_bytes_max,
            log_lines_max=invocation.log_lines_max,
            log_stdout=invocation.log_stdout,
            inline=invocation.inline,
            execution_id=invocation.execution_id,
        )

    def stats(self) -> dict[str, int]:
        return {} if self._executor is None else self._executor.stats()

    def close(self, grace_s: float = 0.0) -> None:
        with self._lock:
            self._closed = True
        if self._executor is not None:
            self._executor.close(grace_s)

    def _engine_ready(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = _engine_class()(slots=self._guests_max)
            return self._engine

    def _executor_ready(self) -> Executor:
        with self._lock:
            if self._closed:
                raise NodeClosed("the node is closed and takes no more work")
            if self._executor is None:
                from spear._core.executor import Executor

                self._executor = Executor(workers=self._workers, guests_max=self._guests_max)
            return self._executor


def _engine_class() -> type[Engine]:
    try:
        from spear._core.engine import Engine
    except EngineUnavailable:
        raise
    except ImportError as error:
        raise EngineUnavailable(f"the native modules are not built ({error}): make demo") from error
    return Engine

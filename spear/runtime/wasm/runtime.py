"""Runs wasm modules: the runtime interface over the native engines and executor.

The rule: nothing native is imported or made before it is needed: an engine for plain modules, one
for metered ones, the executor that both share, the object store for modules that use objects, the
handlers of calls that Python answers for modules that make such calls.
"""

from __future__ import annotations

from _thread import allocate_lock

from spear.errors import EngineUnavailable, InvalidArgument, NodeClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spear._core.compiler import Compiler
    from spear._core.door import Handler
    from spear._core.engine import Engine, Module
    from spear._core.executor import Executor, Launch
    from spear._core.instance import Instance
    from spear._core.objstore import ObjectStore
    from spear._core.run import Run
    from spear.runtime.invocation import Invocation


class WasmRuntime:
    """`guests_max` live guests on `workers` native threads (0: one a core); compiled code is kept
    in `cache_dir` (None: nowhere). As many modules as workers compile at a time, each for at most
    `compile_ns_max` within `compile_bytes_max` of memory. `objects` gives the store that guests
    share (None: there is none, and their object calls answer -ENOSYS). `handlers` gives, once, what
    answers the calls of guests that Python answers, by operation code, and `object_handlers` what
    answers their durable puts (None: they answer -ENOSYS).
    With a `seed` guests live in a deterministic world (see Executor), scheduled by `strategy`;
    there nothing answers such calls, as answers come in real time."""

    def __init__(
        self,
        *,
        guests_max: int,
        workers: int,
        cache_dir: str | None,
        compile_ns_max: int,
        compile_bytes_max: int,
        objects: Callable[[], ObjectStore] | None = None,
        handlers: Callable[[], Mapping[int, Handler]] | None = None,
        object_handlers: Callable[[], Mapping[int, Handler]] | None = None,
        seed: int | None = None,
        strategy: str = "round_robin",
    ) -> None:
        self._guests_max, self._workers, self._cache_dir = guests_max, workers, cache_dir
        self._compile_ns_max, self._compile_bytes_max = compile_ns_max, compile_bytes_max
        self._objects = objects
        self._handlers = handlers if seed is None else None
        self._object_handlers = object_handlers if seed is None else None
        self._seed, self._strategy = seed, strategy
        self._compiler: Compiler | None = None
        self._engines: dict[bool, Engine] = {}
        self._executor: Executor | None = None
        self._lock, self._serving = allocate_lock(), allocate_lock()
        self._closed = False

    def meters(self, wanted: bool) -> bool:
        return wanted or self._seed is not None

    def load(self, wasm: bytes, *, metered: bool = False) -> Module:
        engine = self._engine_ready(self.meters(metered))
        return engine.load(wasm, cache_dir=self._cache_dir)

    def steps(self) -> Executor:
        """The executor, whose steps can be recorded and compared. InvalidArgument without a
        seed."""
        if self._seed is None:
            raise InvalidArgument("this node lives in real time; with a seed it has steps")
        return self._executor_ready()

    def start(self, program: Module, invocation: Invocation) -> Run:
        return self._prepare(program, invocation).start(
            program,
            invocation.stdin,
            invocation.execution_id,
            invocation.timeout_ns,
            invocation.priority,
            invocation.inline,
            invocation.context,
        )

    def begin(
        self, program: Module, like: Invocation, stdin: bytes, execution_id: str, timeout_ns: int,
        priority: int, inline: bool,
    ) -> Run:  # fmt: skip
        launch: Launch | None = like.prepared
        executor = self._executor
        if launch is None or executor is None or not launch.fits(executor, program):
            launch = like.prepared = self._prepare(program, like)
        return launch.start(program, stdin, execution_id, timeout_ns, priority, inline)

    def _prepare(self, program: Module, like: Invocation) -> Launch:
        objects = self._objects if program.uses_objects else None
        executor = self._executor
        if executor is None or self._unanswered(program):
            executor = self._executor_for(program)
        return executor.prepare(
            program,
            entry=like.entry,
            call_args=like.call_args,
            args=like.args,
            env=like.env,
            memory_bytes_max=like.memory_bytes_max,
            output_bytes_max=like.output_bytes_max,
            log_bytes_max=like.log_bytes_max,
            log_lines_max=like.log_lines_max,
            log_waits=like.log_waits,
            log_stdout=like.log_stdout,
            dirs=like.dirs,
            descriptors_max=like.descriptors_max,
            fuel=like.fuel,
            objects=objects and objects(),
            task=like.task,
            object_grants=like.object_grants,
        )

    def serve(self, program: Module) -> None:
        self._executor_for(program)

    def warm(self, program: Module, invocation: Invocation) -> Instance:
        objects = self._objects if program.uses_objects else None
        return self._executor_for(program).instantiate(
            program,
            args=invocation.args,
            env=invocation.env,
            timeout_ns=invocation.timeout_ns,
            memory_bytes_max=invocation.memory_bytes_max,
            output_bytes_max=invocation.output_bytes_max,
            log_bytes_max=invocation.log_bytes_max,
            fuel=invocation.fuel,
            objects=objects and objects(),
            task=invocation.task,
            object_grants=invocation.object_grants,
            context=invocation.context,
            log_waits=invocation.log_waits,
        )

    def stats(self) -> dict[str, int]:
        return {} if self._executor is None else self._executor.stats()

    def close(self, grace_s: float = 0.0) -> None:
        with self._lock:
            self._closed = True
        if self._compiler is not None:
            self._compiler.close()
        if self._executor is not None:
            self._executor.close(grace_s)

    def _engine_ready(self, metered: bool) -> Engine:
        with self._lock:
            if metered not in self._engines:
                engine_class = _engine_class()
                self._compiler = self._compiler or self._new_compiler()
                self._engines[metered] = engine_class(
                    slots=self._guests_max, metered=metered, compiler=self._compiler
                )
            return self._engines[metered]

    def _new_compiler(self) -> Compiler:
        from spear._core.compiler import Compiler

        return Compiler(
            timeout_ns=self._compile_ns_max,
            memory_bytes_max=self._compile_bytes_max,
            children_max=self._workers,
        )

    def _executor_for(self, program: Module) -> Executor:
        """Which answers the calls of such a program."""
        executor = self._executor_ready()
        if self._unanswered(program):
            with self._serving:  # another thread's guest waits for them, too
                if program.posted and self._handlers is not None:
                    executor.serve(self._handlers())
                    self._handlers = None
                if program.puts_objects and self._object_handlers is not None:
                    executor.serve(self._object_handlers())
                    self._object_handlers = None
        return executor

    def _unanswered(self, program: Module) -> bool:
        """Whether it makes calls that nothing answers yet, and something could."""
        return bool(
            (program.posted and self._handlers is not None)
            or (program.puts_objects and self._object_handlers is not None)
        )

    def _executor_ready(self) -> Executor:
        with self._lock:
            if self._closed:
                raise NodeClosed("the node is closed and takes no more work")
            if self._executor is None:
                from spear._core.executor import Executor

                self._executor = Executor(
                    workers=self._workers,
                    guests_max=self._guests_max,
                    seed=self._seed,
                    strategy=self._strategy,
                )
            return self._executor


def _engine_class() -> type[Engine]:
    try:
        from spear._core.engine import Engine
    except EngineUnavailable:
        raise
    except ImportError as error:
        raise EngineUnavailable(f"the native modules are not built ({error}): make demo") from error
    return Engine

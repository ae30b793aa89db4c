"""A SPEARlet as a library: a whole node in your own process, no server, nothing on disk but the
cache of compiled modules.

The rule: this is a composition root. It builds the parts, hands them to each other, and every
method is one call of the services. There is one implementation, async; SyncSpearlet drives the
same coroutines without an event loop. It runs modules and keeps nothing: a node with tasks, and all
methods of spear.Client, is `spear.Spearlet.open()`.

    async with spear.Spearlet() as node:
        execution = await node.run("agent.wasm", input=b"hello", timeout="5s")

    with spear.Spearlet.sync() as node:
        execution = node.run("agent.wasm", input=b"hello", timeout="5s")
"""

from __future__ import annotations

from spear import config as configuration
from spear.clock import Clock, Ids, SeededClock
from spear.errors import InvalidArgument
from spear.runtime.waiting import drive
from spear.runtime.wasm.runtime import WasmRuntime
from spear.spearlet.execution.manager import Manager
from spear.spearlet.handle import Handle, SyncHandle
from spear.spearlet.hostcalls import LibraryCalls
from spear.spearlet.objects import Objects
from spear.spearlet.services import Services

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self, Unpack

    from spear._core.executor import Executor
    from spear._core.objstore import ObjectStore
    from spear.config import Config
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.runtime.interface import Runtime
    from spear.spearlet.execution.artifact import Artifact
    from spear.spearlet.execution.execution import Execution
    from spear.spearlet.node.own import OwnNode
    from spear.spearlet.options import RunOptions
    from spear.spearlet.services import Source


class _Node:
    """What both faces share. `settings` are configuration keys, as strong as flags; a Config given
    is taken as it is. With a `seed` the node is deterministic: its guests' clock, randomness and
    order come from the inputs and the seed alone, and it goes on only while somebody waits; models
    answer -ENOSYS in it. `router_filter` is a function, plain or async, that is asked which model
    backend may answer a request, on the loop where models are asked: from a spear.Question to a
    spear.Verdict."""

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        config: Config | None = None,
        runtime: Runtime | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        strategy: str = "round_robin",
        router_filter: Hook | None = None,
    ) -> None:
        clock = clock or (Clock() if seed is None else SeededClock(seed))
        self.config = config or configuration.load(
            flags={key: (key, value) for key, value in (settings or {}).items()},
            defaults={"node_name": clock.host_name()},
        )
        self._objects = Objects(self.config.object_bytes_max)
        calls = LibraryCalls(self.config, clock, configuration.environment(), router_filter)
        runtime = runtime or WasmRuntime(
            guests_max=self.config.guests_max,
            workers=self.config.workers,
            cache_dir=self.config.cache_dir,
            seed=seed,
            strategy=strategy,
            compile_ns_max=self.config.compile_ns_max,
            compile_bytes_max=self.config.compile_bytes_max,
            objects=self._objects.store,
            handlers=calls.handlers,
        )
        self._runtime = runtime
        manager = Manager(runtime, clock, Ids(clock), self.config, calls.close)
        self._services = Services(manager, self.config, calls.shown)

    @property
    def objects(self) -> ObjectStore:
        """The objects that guests share, by their full keys: b"shared/..." or b"/TASK/...".

        They lie in memory, up to `objects.size` bytes, and last as long as the node.
        """
        return self._objects.store()

    @property
    def steps(self) -> Executor:
        """With a seed: the steps of the node's world, to be recorded, taken and compared (see
        Executor.record_steps). InvalidArgument without."""
        if not isinstance(self._runtime, WasmRuntime):
            raise InvalidArgument("only the WASM runtime has a world with steps")
        return self._runtime.steps()

    if not TYPE_CHECKING:  # which knows by itself what is there

        def __getattr__(self, name: str) -> object:
            """Never: methods of a node that keeps what it is given are told where they are."""
            from spear.records.node import Node

            sentence = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in vars(Node) and not name.startswith("_"):
                sentence += (
                    ": this node runs modules and keeps no tasks; spear.Spearlet.open() makes one "
                    "that has all methods of spear.Client"
                )
            raise AttributeError(sentence, name=name, obj=self)


class Spearlet(_Node):
    """The async face; its executions need no task or thread of yours to go on."""

    @staticmethod
    def sync(
        settings: Mapping[str, object] | None = None,
        *,
        config: Config | None = None,
        runtime: Runtime | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        strategy: str = "round_robin",
        router_filter: Hook | None = None,
    ) -> SyncSpearlet:
        """The same node for callers without an event loop."""
        return SyncSpearlet(
            settings, config=config, runtime=runtime, clock=clock, seed=seed, strategy=strategy,
            router_filter=router_filter,
        )  # fmt: skip

    @staticmethod
    def open(
        data_dir: str | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        grace: float = 0.0,
        router_filter: Hook | None = None,
    ) -> OwnNode:
        """A node that keeps tasks and executions, with the methods of spear.Client:

            async with spear.Spearlet.open("data") as node:
                artifact = await node.put_artifact(wasm)
                await node.register(spear.TaskSpec(name="greet", artifact=artifact.digest))
                execution = await node.invoke("greet", b"hello")

        In `data_dir` it keeps what a daemon there would keep; without one all is gone with it.
        `grace` is how many seconds what runs at the end may go on, `router_filter` as above.
        """
        from spear.spearlet.node.own import OwnNode

        return OwnNode(data_dir, settings, grace, router_filter)

    async def load(self, source: Source, *, metered: bool = False) -> Artifact:
        """Compiles a module once, to be run often; `metered` for runs with a limit of fuel. Raises
        ModuleInvalid, ModuleLimit."""
        return await self._services.load(source, metered=metered)

    async def run(self, source: Source, **options: Unpack[RunOptions]) -> Execution:
        """Runs `source` (wasm bytes, a path, or what `load` gave) and gives its record; options
        as of `Services.start`. Cancelling the call ends the guest."""
        return await self._services.run(source, **options)

    async def start(self, source: Source, **options: Unpack[RunOptions]) -> Handle:
        """Starts `source` and gives a handle at once; options as of `run`."""
        return Handle(self._services, await self._services.start(source, **options))

    async def execution(self, id: str) -> Execution:
        """Raises NotFound."""
        return await self._services.execution(id)

    async def executions(
        self, *, status: str | None = None, limit: int = 100, before: str | None = None
    ) -> list[Execution]:
        """Records from the newest on; `before` is the id of the last one seen."""
        return await self._services.executions(status=status, limit=limit, before=before)

    async def cancel(self, id: str, reason: str = "") -> Execution:
        """Ends the execution if it has not ended. Raises NotFound."""
        return await self._services.cancel(id, reason)

    async def stats(self) -> dict[str, dict[str, int]]:
        return await self._services.stats()

    async def close(self, grace: float | str = 0.0) -> None:
        """Takes no more work; waits up to `grace` for what runs, then ends it."""
        await self._services.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class SyncSpearlet(_Node):
    """The sync face. A guest begins on the calling thread; only one that waits or works long goes
    to a worker."""

    def load(self, source: Source, *, metered: bool = False) -> Artifact:
        """As Spearlet.load."""
        return drive(self._services.load(source, metered=metered))

    def run(self, source: Source, **options: Unpack[RunOptions]) -> Execution:
        """As Spearlet.run; KeyboardInterrupt ends the guest."""
        return drive(self._services.run(source, inline=True, **options))

    def start(self, source: Source, **options: Unpack[RunOptions]) -> SyncHandle:
        """As Spearlet.start."""
        return SyncHandle(self._services, drive(self._services.start(source, **options)))

    def execution(self, id: str) -> Execution:
        """As Spearlet.execution."""
        return drive(self._services.execution(id))

    def executions(
        self, *, status: str | None = None, limit: int = 100, before: str | None = None
    ) -> list[Execution]:
        """As Spearlet.executions."""
        return drive(self._services.executions(status=status, limit=limit, before=before))

    def cancel(self, id: str, reason: str = "") -> Execution:
        """As Spearlet.cancel."""
        return drive(self._services.cancel(id, reason))

    def stats(self) -> dict[str, dict[str, int]]:
        """As Spearlet.stats."""
        return drive(self._services.stats())

    def close(self, grace: float | str = 0.0) -> None:
        """As Spearlet.close."""
        drive(self._services.close(grace))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Builds a node from its configuration and its stores, and takes up what an earlier process left.

The rule: the composition of everything behind the doors. What was opened is closed in the other
order; what is handed in stays its owner's to close.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial

from spear import __version__
from spear._core.objstore import EPOCH_MAX, ObjectStore
from spear.clock import Ids
from spear.errors import KvFormat, NotFound, SpearError
from spear.kv.batch import Batch
from spear.runtime.wasm.runtime import WasmRuntime
from spear.security.tokens import open_token
from spear.spearlet.admission import UNLIMITED, Admission
from spear.spearlet.hostcalls import HostCalls
from spear.spearlet.models import NodeModels
from spear.spearlet.node import rows
from spear.spearlet.node.artifacts import Artifacts
from spear.spearlet.node.events import Events
from spear.spearlet.node.executions import Executions
from spear.spearlet.node.family import Family
from spear.spearlet.node.files import Files
from spear.spearlet.node.history import Bounds, History
from spear.spearlet.node.housekeeping import Housekeeping
from spear.spearlet.node.journal import Journal
from spear.spearlet.node.objects import NodeObjects
from spear.spearlet.node.parts import Parts
from spear.spearlet.node.pools import Pools
from spear.spearlet.node.programs import Programs
from spear.spearlet.node.recovery import recover
from spear.spearlet.node.secrets import Secrets
from spear.spearlet.node.services import NodeServices
from spear.spearlet.node.tallies import Tallies
from spear.spearlet.node.tasks import Tasks
from spear.spearlet.node.upkeep import Upkeep
from spear.spearlet.schedules.scheduler import Scheduler
from spear.spearlet.webhooks.sender import WebhookSender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spear.clock import Clock
    from spear.config import Config
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.kv.interface import LocalKv
    from spear.records.execution import Execution, Invocation
    from spear.records.schedule import Schedule
    from spear.runtime.interface import Runtime
    from spear.spearlet.logs.store import LogStore
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor

_EPOCH = b"meta/object_epoch"
_INPUT_BYTES_MAX = 256 << 20  # of executions in memory


async def open_node(
    config: Config, *, kv: LocalKv, data_dir: str, clock: Clock, log: Log, logs: LogStore,
    redactor: Redactor, environ: Mapping[str, str], runtime: Runtime | None = None,
    router_filter: Hook | None = None,
) -> OpenNode:  # fmt: skip
    """A node that takes calls. `environ` is what tasks may refer to by `env:NAME`; files lie under
    `data_dir`. Raises KvError, InvalidArgument."""
    store = ObjectStore(config.object_bytes_max, epoch=_next_epoch(kv))
    models = NodeModels(
        config, environ=environ, clock=clock, log=log, redactor=redactor, filter=router_filter
    )
    calls = HostCalls(models.get, clock)
    runtime = runtime or _runtime_of(config, store, calls)
    try:
        parts = _parts_of(config, kv, data_dir, clock, log, logs, redactor, environ, runtime)
        node = OpenNode(parts, store, models, calls)
        await node.load()
    except BaseException:
        await models.close()
        await asyncio.get_running_loop().run_in_executor(None, runtime.close)
        raise
    return node


class OpenNode:
    """A node with its doors still shut."""

    def __init__(
        self, parts: Parts, store: ObjectStore, models: NodeModels, calls: HostCalls
    ) -> None:
        self._parts, self._models = parts, models
        tallies = Tallies()
        self._scheduler = Scheduler(
            parts.kv, parts.clock, parts.ids, self._submit, self._has_ended, self._report
        )
        self._tasks = Tasks(parts.kv, parts.journal, parts.clock, parts.ids, parts.config)
        self._history = History(parts, self._forget, self._is_pending, _bounds_of(parts.config))
        self._executions = Executions(parts, self._told, self._history.added)
        self._tallies = tallies
        self._artifacts = Artifacts(parts, self._users)
        self._objects = NodeObjects(
            store, parts.journal, parts.files.objects, parts.kv,
            parts.config.one_object_bytes_max, parts.config.durable_bytes_max,
        )  # fmt: skip
        self._housekeeping = Housekeeping(
            parts, self._tasks, self._history, self._scheduler, self._objects
        )
        self.services = NodeServices(
            parts=parts,
            tasks=self._tasks,
            artifacts=self._artifacts,
            executions=self._executions,
            history=self._history,
            objects=self._objects,
            logs=parts.logs,
            models=self._models.get,
            schedules=self._scheduler,
            tallies=tallies,
            upkeep=Upkeep(parts, self._history, self._objects, self._executions),
            facts=_facts(parts),
        )
        begin, whole = self.services.begin, self.services.with_output
        calls.keeper = self._objects
        calls.children = Family(parts, self._tasks, self._executions, begin, whole)
        self._executions.introduce(calls.children)

    async def load(self) -> None:
        """Takes up what is kept."""
        self._tasks.load()
        for task in self._tasks.list("", 1 << 30, ""):
            self._executions.limit(task)
            self._parts.secrets.learn(task.spec)
        await self._history.load()
        await self._objects.load()
        self._scheduler.load()
        self._parts.webhooks.load()
        self._executions.newest_id = rows.newest_id(self._parts.kv)
        left = recover(self._parts, self._tasks, self._executions)
        if left:
            self._parts.log.info("took up executions of an earlier process", count=left)
        self._housekeeping.start()

    async def close(self, grace_s: float = 0.0) -> None:
        """Takes no more work, waits up to `grace_s` for what runs, ends it, keeps it all."""
        await self._housekeeping.close()
        await self._executions.close(grace_s)
        await self._models.close()
        await self._objects.settle()
        with contextlib.suppress(SpearError):  # what cannot be kept any more
            await self._objects.follow_guests()
        await self._parts.journal.close()
        self._parts.pools.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._parts.runtime.close)

    def _told(self, execution: Execution) -> None:
        self._tallies.add(execution)
        self._scheduler.execution_ended(execution.id)

    def _is_pending(self, id: str) -> bool:
        return self._executions.known(id) is not None

    async def _submit(self, task: str, input: bytes, invocation: Invocation) -> Execution:
        return await self.services.submit(task, input, invocation)

    async def _has_ended(self, id: str) -> bool:
        try:
            return (await self.services.execution(id)).ended
        except NotFound:
            return True

    def _report(self, schedule: Schedule, error: SpearError) -> None:
        self._parts.log.warn(
            "scheduled run not submitted",
            schedule=schedule.id,
            task=schedule.spec.task,
            reason=str(error),
        )

    def _users(self, digest: str) -> Iterator[str]:
        """Names of what needs an artifact."""
        for name in self._tasks.using(digest):
            yield f"task {name!r}"
        for work in self._executions.works():
            if work.execution.artifact == digest:
                yield f"execution {work.execution.id}"

    async def _forget(self, execution: Execution) -> None:
        """What belongs to an execution's record and lies elsewhere."""
        self._parts.logs.remove(execution.id, execution.task_name)
        digest = execution.output_digest
        if not digest:
            return
        self._parts.journal.delete(rows.result_key(digest, execution.id))
        self._parts.journal.then(partial(self._unnamed, digest), power=True)

    def _unnamed(self, digest: str, error: Exception | None) -> None:
        """One row less names this result, also after a power cut."""
        if error is None and not self._parts.kv.scan(rows.result_prefix(digest), limit=1):
            self._parts.files.results.delete(digest)


def _next_epoch(kv: LocalKv) -> int:
    """Of this process's object versions, above all before; written before the first is given."""
    before = kv.get(_EPOCH)
    epoch = int.from_bytes(before, "big") + 1 if before else 1
    if epoch > EPOCH_MAX:
        raise KvFormat("the data directory was opened 8 million times: start a new one")
    batch = Batch()
    batch.put(_EPOCH, epoch.to_bytes(4, "big"))
    kv.write(batch)
    return epoch


def _bounds_of(config: Config) -> Bounds:
    return Bounds(config.history_count_max, config.history_bytes_max, config.history_ns_max)


def _runtime_of(config: Config, store: ObjectStore, calls: HostCalls) -> Runtime:
    return WasmRuntime(
        guests_max=config.guests_max + config.agents_depth,  # see Admission's depths
        workers=config.workers,
        cache_dir=config.cache_dir,
        compile_ns_max=config.compile_ns_max,
        compile_bytes_max=config.compile_bytes_max,
        objects=lambda: store,
        handlers=calls.handlers,
        object_handlers=calls.object_handlers,
    )


def _parts_of(
    config: Config, kv: LocalKv, data_dir: str, clock: Clock, log: Log, logs: LogStore,
    redactor: Redactor, environ: Mapping[str, str], runtime: Runtime,
) -> Parts:  # fmt: skip
    files = Files(data_dir)
    ids = Ids(clock)

    def told(id: str, reason: str) -> None:
        log.warn("webhook not delivered", delivery=id, reason=reason)

    return Parts(
        admission=Admission(
            concurrency=config.guests_max,
            cpu_millis=1000 * len(os.sched_getaffinity(0)),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            task_concurrency=UNLIMITED,
            queue_max=config.queue_max,
            task_queue_max=config.task_queue_max,
            depths=config.agents_depth,
        ),
        clock=clock,
        config=config,
        environ=environ,
        events=Events(),
        files=files,
        ids=ids,
        input_bytes_max=_INPUT_BYTES_MAX,
        journal=Journal(kv),
        kv=kv,
        log=log,
        logs=logs,
        pools=Pools(runtime, clock, ids, config.node_name, environ),
        programs=Programs(runtime, files.artifacts, config.artifact_bytes_max),
        redactor=redactor,
        runtime=runtime,
        secrets=Secrets(environ, redactor, _keys_of_models(config)),
        webhooks=WebhookSender(kv, clock, _webhook_key(data_dir, clock), told),
    )


def _keys_of_models(config: Config) -> Iterator[str]:
    """The variables that they are in."""
    if config.has_llm:
        for backend in config.llm.backends:
            if backend.spec.credential_ref:
                yield backend.spec.credential_ref


def _webhook_key(data_dir: str, clock: Clock) -> bytes:
    """What webhooks are signed with; it lies beside the node's token, for who checks them."""
    return open_token(os.path.join(data_dir, "webhook_key"), clock).encode()


def _facts(parts: Parts) -> dict[str, str]:
    return {
        "node_name": parts.node_name,
        "version": __version__,
        "durability": parts.kv.durability,
        "started_ns": str(parts.clock.now_ns()),
        "data_dir": parts.config.data_dir,
    }

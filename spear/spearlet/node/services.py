"""The node's services: everything of records.node.Node, behind every door.

The rule: plain async methods, from plain values to records. Here a name becomes the thing it names
and a call becomes an execution; what happens then is decided by the parts. On the node's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar, cast

import msgspec

from spear.errors import (
    AlreadyExists,
    InUse,
    InvalidArgument,
    NotFound,
    TaskInactive,
)
from spear.records.execution import (
    NOTHING,
    STATUSES,
    Execution,
    ExecutionPage,
    Instance,
    Invocation,
    LogLine,
)
from spear.records.schedule import Schedule, ScheduleSpec
from spear.records.task import Artifact, Task, TaskSpec
from spear.spearlet.node import answers, rows
from spear.spearlet.node.answers import bare, end_within, instance_of, limit_of, now_of, page_of
from spear.spearlet.node.atonce import AtOnce
from spear.spearlet.node.calls import check, check_id, execution_of
from spear.spearlet.node.ends import INLINE_BYTES_MAX
from spear.spearlet.node.models import ModelServices
from spear.spearlet.node.objectservices import ObjectServices
from spear.spearlet.node.plans import Plans
from spear.spearlet.node.work import ENDING, WRITING, Work, is_cut_off
from spear.spearlet.taskconfig import unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine

    from spear.hostcalls.llm.models import Models
    from spear.records.node import Bytes
    from spear.spearlet.logs.store import LogStore
    from spear.spearlet.node.artifacts import Artifacts
    from spear.spearlet.node.executions import Executions
    from spear.spearlet.node.history import History
    from spear.spearlet.node.journal import Journal
    from spear.spearlet.node.objects import NodeObjects
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.plan import Plan
    from spear.spearlet.node.tallies import Tallies
    from spear.spearlet.node.tasks import Tasks
    from spear.spearlet.node.upkeep import Upkeep
    from spear.spearlet.schedules.scheduler import Scheduler

T = TypeVar("T")


class NodeServices(ModelServices, ObjectServices):
    """Made by opening.open_node, which also says how it ends."""

    def __init__(
        self, *, parts: Parts, tasks: Tasks, artifacts: Artifacts, executions: Executions,
        history: History, objects: NodeObjects, logs: LogStore, models: Callable[[], Models],
        schedules: Scheduler, tallies: Tallies, upkeep: Upkeep, facts: dict[str, str],
    ) -> None:  # fmt: skip
        self._parts, self._tasks, self._artifacts = parts, tasks, artifacts
        self._executions, self._history, self._objects = executions, history, objects
        self._at_once = AtOnce(parts, executions, self._lookup)
        self._logs, self._schedules, self._tallies = logs, schedules, tallies
        self._upkeep, self._facts, self._models = upkeep, facts, models
        self._plans = Plans(tasks, parts.config)
        self._arriving: dict[bytes, str] = {}  # idempotency key -> an execution not kept yet

    @property
    def turn(self) -> Journal:
        """For a door that takes many requests at once."""
        return self._parts.journal

    # ---- artifacts

    async def put_artifact(
        self, data: Bytes, *, digest: str = "", name: str = "", version: str = "",
        runtime: str = "wasm", dependencies: Sequence[str] = (),
    ) -> Artifact:  # fmt: skip
        return await self._artifacts.put(data, digest, name, version, runtime, dependencies)

    async def artifact(self, digest: str) -> Artifact:
        return self._artifacts.find(digest)

    async def artifacts(self, *, limit: int = 100, after: str = "") -> list[Artifact]:
        return self._artifacts.list(limit_of(limit), after)

    def read_artifact(self, digest: str) -> AsyncIterator[bytes]:
        return self._artifacts.chunks(digest)

    async def delete_artifact(self, digest: str) -> Artifact:
        return await self._artifacts.delete(digest)

    # ---- tasks

    async def register(self, spec: TaskSpec) -> Task:
        return await _through(self._limited(lambda: self._tasks.register(self._whole(spec))))

    async def update(self, spec: TaskSpec, *, if_version: int = 0) -> Task:
        return await _through(
            self._limited(lambda: self._tasks.update(self._whole(spec), if_version))
        )

    async def task(self, task: str) -> Task:
        return self._tasks.find(task).task

    async def tasks(self, *, status: str = "", limit: int = 100, after: str = "") -> list[Task]:
        return self._tasks.list(status, limit_of(limit), after)

    async def set_task_status(self, task: str, status: str) -> Task:
        return await _through(self._tasks.set_status(task, status))

    async def unregister(self, task: str, reason: str = "") -> Task:
        return await _through(self._unregister(task, reason))

    async def _unregister(self, task: str, reason: str) -> Task:
        gone = await self._tasks.unregister(task)
        for work in self._executions.works():
            if work.execution.task_id == gone.id and work.run is None:
                self._executions.cancel(work, reason or f"task {gone.name!r} was unregistered")
        self._parts.pools.forget(gone.id)
        self._executions.unlimit(gone)
        return gone

    def _whole(self, spec: TaskSpec) -> TaskSpec:
        """The spec with its artifact's whole digest."""
        return msgspec.structs.replace(spec, artifact=self._artifacts.find(spec.artifact).digest)

    async def _limited(self, change: Callable[[], Coroutine[object, object, Task]]) -> Task:
        """The artifact is looked for in the step that names it, or it could go in between."""
        task = await change()
        self._parts.secrets.learn(task.spec)
        for key in unread(task.spec.config):
            self._parts.log.warn("nothing reads this of a task's config", task=task.name, key=key)
        for reason in self.unknown_backends(task.spec.config):
            self._parts.log.warn("a task names a backend in vain", task=task.name, reason=reason)
        self._executions.limit(task)
        return task

    # ---- executions

    async def invoke(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = NOTHING
    ) -> Execution:
        return await self._end_of(self._invoked(task, input, invocation))

    def invoke_at_once(
        self, task: str | TaskSpec, input: bytes, invocation: Invocation
    ) -> Coroutine[object, object, Execution] | list[asyncio.Future[Execution]]:
        found = self._invoked(task, input, invocation)
        if isinstance(found, Work) and found.stage == ENDING:
            return found.waiters
        return self._end_of(found)

    def _invoked(
        self, task: str | TaskSpec, input: bytes, invocation: Invocation
    ) -> Work | Execution:
        registered, plan = self._named(task)
        found = self._at_once.call(registered, plan, invocation, input)
        return found or self._accept(registered, plan, input, invocation, "sync")

    async def _end_of(self, found: Work | Execution) -> Execution:
        """For a caller whose going away ends it, unless somebody else wants it."""
        if isinstance(found, Execution):
            return await self.with_output(found)
        end = found.listen(self._parts.journal.loop)
        try:
            return await end
        except asyncio.CancelledError:
            found.leave(end)
            if not (found.waiters or found.powered or found.joined):
                self._executions.cancel(found, "the caller went away")
            raise

    async def submit(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = NOTHING
    ) -> Execution:
        digest, inputs = "", self._parts.files.inputs
        if len(input) > INLINE_BYTES_MAX:
            digest = await inputs.put(input, sync=True)
        try:
            found = self._accept(*self._named(task), input, invocation, "async", digest)
        finally:
            if digest:
                inputs.let_go(digest)  # the execution holds it, if there is one
                inputs.delete(digest)
        if isinstance(found, Execution):
            return bare(found)
        found.joined = True
        accepted = found.hear_accepted()
        if accepted is not None:
            await accepted
        elif found.stage == WRITING:  # somebody's call that waits, asked for before by its key
            await self._parts.journal.kept(power=found.powered)
        elif found.stage == ENDING:
            await found.end()
        return bare(found.execution)

    def _accept(
        self, registered: Task | None, plan: Plan, input: bytes, invocation: Invocation,
        mode: str, input_digest: str = "", born: Callable[[Work], None] | None = None,
    ) -> Work | Execution:  # fmt: skip
        """A new execution, or the one that was asked for before under the same key or id; a new one
        is given to `born` before it is accepted."""
        key = None
        if invocation is not NOTHING and (invocation.idempotency_key or invocation.execution_id):
            owner = (
                registered.id if registered else rows.owner_of(plan.spec.name, plan.spec.artifact)
            )
            known = self._known(owner, registered.id if registered else "", invocation)
            if known is not None:
                return known
            if invocation.idempotency_key:
                key = rows.idempotency_key(owner, invocation.idempotency_key)
        execution = execution_of(self._parts, registered, plan, invocation, input, mode)
        work = Work(execution, invocation, plan, b"" if input_digest else input)
        work.input_digest = input_digest
        if mode == "async":
            work.accepted = []
        if born is not None:
            born(work)
        self._executions.accept(work, idempotency=key)
        if key is not None:
            self._arriving[key] = execution.id
            self._parts.journal.then(partial(self._arrived, key))
        return work

    def begin(
        self, task: str, input: bytes, invocation: Invocation, mode: str, *,
        born: Callable[[Work], None],
    ) -> Work | Execution:  # fmt: skip
        """For agents that call others; see family.py."""
        return self._accept(*self._named(task), input, invocation, mode, born=born)

    def _arrived(self, key: bytes, _: Exception | None) -> None:
        """It is a row now, or was not accepted."""
        self._arriving.pop(key, None)  # the same key may have arrived twice: see _known

    def _named(self, task: str | TaskSpec) -> tuple[Task | None, Plan]:
        if isinstance(task, TaskSpec):
            plan = self._plans.of(self._whole(task))
            if plan.spec.pool.isolation == "shared":
                raise InvalidArgument("a shared pool is of a registered task: register it first")
            self._parts.secrets.learn(plan.spec)
            return None, plan
        registered = self._tasks.find(task)
        if registered.task.status == "inactive":
            raise TaskInactive(f"task {registered.task.name!r} is inactive: activate it first")
        return registered.task, registered.plan

    def _known(self, owner: str, task_id: str, invocation: Invocation) -> Work | Execution | None:
        """What was accepted before under this key, or else this id. Raises AlreadyExists where it
        is another task's execution. A call that was cut off has no key any more: its caller's next
        attempt asks again (ADR 0022); it still is the one execution of its id."""
        if invocation.idempotency_key:
            key = rows.idempotency_key(owner, invocation.idempotency_key)
            row = self._parts.kv.get(key)
            id = self._arriving.get(key) or (row.decode() if row is not None else "")
            found = self._known_as(id, task_id)
            if found is not None and not is_cut_off(found):
                return found
        return self._known_as(invocation.execution_id, task_id)

    def _known_as(self, id: str, task_id: str) -> Work | Execution | None:
        found = self._lookup(id) if id else None
        if found is None:
            return None
        execution = found.execution if isinstance(found, Work) else found
        if execution.task_id != task_id:
            raise AlreadyExists(f"execution {id} is one of task {execution.task_name!r}")
        return found

    async def execution(self, id: str, *, include_output: bool = False) -> Execution:
        found = self._find(id)
        if isinstance(found, Work) and found.stage == ENDING:
            found = await found.end()  # which is told once it is kept
        if isinstance(found, Work):
            return bare(now_of(found))
        return await self.with_output(found) if include_output else bare(found)

    async def executions(
        self, *, task: str = "", status: str = "", invocation_id: str = "", root: str = "",
        limit: int = 100, page_token: str = "",
    ) -> ExecutionPage:  # fmt: skip
        if status and status not in STATUSES:
            raise InvalidArgument(f"no status {status!r}: expected one of {', '.join(STATUSES)}")
        if root:
            check_id("root", root)
        task_id = self._task_id(task)

        def matches(execution: Execution) -> bool:
            return (
                (not status or execution.status == status)
                and (not invocation_id or execution.invocation_id == invocation_id)
                and (not task or task in (execution.task_id, execution.task_name))
                and (not root or (execution.root_id == root and execution.depth > 0))
            )

        most = limit_of(limit)
        live = await self._live(matches, page_token)
        ended, token = await self._history.page(task_id, matches, most, page_token, root)
        found = {execution.id: execution for execution in (*map(bare, ended), *live)}
        page = sorted(found.values(), key=rows.stamp_of, reverse=True)
        if token:  # what is older than the history was read to comes with its next page
            page = [one for one in page if rows.stamp_of(one).hex() >= token]
        shown = page_of(page, most)
        if len(shown) < len(page):
            token = rows.stamp_of(shown[-1]).hex()
        return ExecutionPage(tuple(shown), token)

    async def wait(
        self, id: str, *, timeout_ns: int | None = None, include_output: bool = True
    ) -> Execution:
        found = self._find(id)
        ended = await end_within(found, timeout_ns) if isinstance(found, Work) else found
        return await self.with_output(ended) if include_output else bare(ended)

    async def watch(self, *, id: str = "", task: str = "") -> AsyncIterator[Execution]:
        first = None
        if id:
            found = self._find(id)
            if not isinstance(found, Work):
                yield bare(found)
                return
            first, task = None if found.stage == ENDING else bare(found.execution), ""
        changes = self._parts.events.watch(id, task, first)
        async with aclosing(cast("AsyncGenerator[Execution, None]", changes)) as seen:
            async for execution in seen:
                yield execution

    async def cancel(self, id: str, reason: str = "") -> Execution:
        found = self._find(id)
        if isinstance(found, Work):
            end = found.end()
            self._executions.cancel(found, reason)  # which tells nothing within this step
            return bare(await end)
        return bare(found)

    async def remove(self, id: str) -> Execution:
        found = self._find(id)
        if isinstance(found, Work):
            raise InUse(f"execution {id} is {found.execution.status}: cancel it first")
        with self._executions.removing(found.id):
            await self._history.remove(found)
        return bare(found)

    async def read_result(self, id: str) -> AsyncIterator[bytes]:
        found = self._find(id)
        if isinstance(found, Work):
            raise InUse(f"execution {id} is {found.execution.status}: wait for its end")
        if found.output_digest:
            async with aclosing(self._parts.files.results.chunks(found.output_digest)) as chunks:
                async for chunk in chunks:
                    yield chunk
        elif found.output:
            yield found.output
        elif found.output_bytes:
            raise NotFound(f"the {found.output_bytes} bytes of execution {id} could not be kept")

    def logs(
        self, id: str, *, after_seq: int = 0, follow: bool = False
    ) -> AsyncIterator[list[LogLine]]:
        found = self._find(id)
        if not isinstance(found, Work):
            read = self._logs.read(found.id, found.task_name, after_seq, found.log_lines)
            return _later(read)
        execution = found.execution
        if not follow:
            return _later(self._logs.read(execution.id, execution.task_name, after_seq))
        self._executions.open_log(found)
        return self._logs.follow(execution.id, execution.task_name, after_seq)

    async def _live(self, matches: Callable[[Execution], bool], token: str) -> list[Execution]:
        """Those behind the token of the page before, as they are now; ends once they are kept."""
        works = [work for work in self._executions.works() if matches(work.execution)]
        if token:
            works = [work for work in works if rows.stamp_of(work.execution).hex() < token]
        found = [bare(now_of(work)) for work in works]
        ends = [work.listen() for work in works if work.stage == ENDING]
        if ends:
            await asyncio.wait(ends)
        return found + [bare(end.result()) for end in ends]

    def _lookup(self, id: str) -> Work | Execution | None:
        return self._executions.known(id) or self._history.find(id)

    def _find(self, id: str) -> Work | Execution:
        found = self._lookup(id)
        if found is None:
            raise NotFound(f"no execution {id!r} is known here; ended ones are forgotten in time")
        return found

    def _task_id(self, task: str) -> str:
        """The id of a registered task; "" for one that is not (any more), which is then looked for
        by its name."""
        try:
            return self._tasks.find(task).task.id if task else ""
        except NotFound:
            return ""

    async def with_output(self, execution: Execution) -> Execution:
        if execution.output_digest and not execution.output:
            output = await self._parts.files.results.read(execution.output_digest)
            return msgspec.structs.replace(execution, output=output)
        return execution

    # ---- instances

    async def instances(self, *, task: str = "") -> list[Instance]:
        fresh = [instance_of(w) for w in self._executions.works() if w.run and not w.lease]
        found = [*self._parts.pools.records(), *fresh]
        return [i for i in found if not task or task in (i.task_id, i.task_name)]

    async def destroy_instance(self, id: str, reason: str = "") -> Instance:
        for work in self._executions.works():
            if work.execution.instance_id == id and work.run is not None:
                instance = instance_of(work)
                if work.lease is not None:
                    self._parts.pools.destroy(id)
                said = f"Destroy instance{': ' if reason else ''}{reason}"
                end = work.end()
                self._executions.cancel(work, reason or "its instance was destroyed", said)
                await end
                return msgspec.structs.replace(instance, status="terminated")
        return msgspec.structs.replace(self._parts.pools.destroy(id), status="terminated")

    # ---- schedules

    async def add_schedule(self, spec: ScheduleSpec) -> Schedule:
        self._tasks.find(spec.task)
        check(spec.invocation)
        return await self._schedules.add(spec)

    async def schedule(self, id: str) -> Schedule:
        return self._schedules.get(id)

    async def schedules(self) -> list[Schedule]:
        return self._schedules.schedules()

    async def remove_schedule(self, id: str) -> Schedule:
        return await self._schedules.remove(id)

    # ---- the node

    async def info(self) -> dict[str, str]:
        return dict(self._facts)

    async def stats(self) -> dict[str, dict[str, int]]:
        return {
            "executions": self._tallies.counts() | self._executions.stats(),
            "duration_us": self._tallies.durations_us(),
            "instances": answers.use_of(await self.instances()),
            "admission": self._parts.admission.stats(),
            "history": {"count": self._history.count, "bytes": self._history.bytes_taken},
            "artifacts": self._parts.programs.stats(),
            "objects": self._objects.table.stats()._asdict(),
            "runtime": self._parts.runtime.stats(),
            "kv": self._parts.kv.stats(),
            "webhooks": self._parts.webhooks.stats(),
        }

    async def collect_garbage(self) -> dict[str, int]:
        return await self._upkeep.collect_garbage()

    async def backup(self, folder: str) -> dict[str, int]:
        return await self._upkeep.backup(folder)

    async def drain(self, grace_ns: int = 0) -> None:
        await self._executions.close(grace_ns / 1e9)


async def _through(change: Coroutine[object, object, T]) -> T:
    """A change is written and then known here, also where its caller goes meanwhile."""
    return await asyncio.shield(asyncio.ensure_future(change))


async def _later(batches: Iterator[list[LogLine]]) -> AsyncIterator[list[LogLine]]:
    """What is read from files, with turns for others between."""
    for batch in batches:
        yield batch
        await asyncio.sleep(0)

"""A Node in memory, for tests of the doors: it keeps what it is given and runs nothing.

An execution of the task `echo` completes with its input; of `fail` it fails; of `wait` it runs
until it is cancelled; `boom` raises what is in no error tree. `calls` are the names of methods
called, `ended` the executions whose callers went away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from spear.errors import (
    AlreadyExists,
    InUse,
    InvalidArgument,
    NodeClosed,
    NotFound,
    ObjectInUse,
    ObjectNotFound,
    VersionConflict,
)
from spear.records.execution import (
    Execution,
    ExecutionError,
    ExecutionPage,
    Instance,
    Invocation,
    LogLine,
)
from spear.records.models import ModelInfo, ModelTest
from spear.records.node import Bytes
from spear.records.objects import ObjectChange, ObjectInfo, ObjectPage
from spear.records.schedule import Schedule, ScheduleSpec
from spear.records.task import Artifact, Task, TaskSpec

PLAIN = Invocation()
BUILT_IN = ("echo", "fail", "wait", "boom")


class DoorNode:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ended: list[str] = []
        self.inputs: list[tuple[bytes, Invocation]] = []
        self.draining = False
        self.closed = False
        self.started = asyncio.Event()  # an execution of `wait` runs
        self.gone = asyncio.Event()  # its caller went away
        self._running = 0
        self._ids = itertools.count(1)
        self._artifacts: dict[str, tuple[Artifact, bytes]] = {}
        self._tasks: dict[str, Task] = {}
        self._executions: dict[str, Execution] = {}
        self._results: dict[str, bytes] = {}
        self._logs: dict[str, list[LogLine]] = {}
        self._instances: dict[str, Instance] = {}
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._schedules: dict[str, Schedule] = {}
        self._changed = asyncio.Condition()

    # What tests put in

    def give_result(self, id: str, value: bytes) -> None:
        """The execution's output, too large for its record."""
        self._results[id] = value
        record = self._executions[id]
        record.output, record.output_digest = b"", hashlib.sha256(value).hexdigest()
        record.output_bytes = len(value)

    def give_logs(self, id: str, messages: Sequence[str]) -> None:
        self._logs[id] = [
            LogLine(execution_id=id, seq=seq, time_ms=seq, message=message)
            for seq, message in enumerate(messages, 1)
        ]

    def give_instance(self, id: str, task: str) -> None:
        self._instances[id] = Instance(
            id=id, task_id=task, task_name=task, node_name="fake", status="ready"
        )

    # Artifacts

    async def put_artifact(
        self, data: Bytes, *, digest: str = "", name: str = "", version: str = "",
        runtime: str = "wasm", dependencies: Sequence[str] = (),
    ) -> Artifact:  # fmt: skip
        self.calls.append("put_artifact")
        whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
        found = hashlib.sha256(whole).hexdigest()
        if digest not in ("", found):
            raise InvalidArgument(f"the bytes have the digest {found}, not {digest}")
        artifact = Artifact(
            digest=found, size=len(whole), runtime=runtime, name=name, version=version,
            dependencies=tuple(dependencies), durability="power",
        )  # fmt: skip
        self._artifacts[found] = (artifact, whole)
        return artifact

    async def artifact(self, digest: str) -> Artifact:
        return self._artifact(digest)[0]

    def _artifact(self, digest: str) -> tuple[Artifact, bytes]:
        for full, pair in self._artifacts.items():
            if full.startswith(digest) and len(digest) >= 8:
                return pair
        raise NotFound(f"no artifact {digest!r}")

    async def artifacts(self, *, limit: int = 100, after: str = "") -> list[Artifact]:
        found = sorted(digest for digest in self._artifacts if digest > after)
        return [self._artifacts[digest][0] for digest in found[:limit]]

    async def read_artifact(self, digest: str) -> AsyncIterator[bytes]:
        yield self._artifact(digest)[1]

    async def delete_artifact(self, digest: str) -> Artifact:
        artifact = self._artifact(digest)[0]
        if any(task.spec.artifact == artifact.digest for task in self._tasks.values()):
            raise InUse(f"artifact {digest!r} is needed by a task")
        return self._artifacts.pop(artifact.digest)[0]

    # Tasks

    async def register(self, spec: TaskSpec) -> Task:
        self.calls.append("register")
        known = self._tasks.get(spec.name)
        if known is not None and known.spec != spec:
            raise AlreadyExists(f"task {spec.name!r} has another spec")
        if known is None:
            known = Task(id=f"task-{spec.name}", version=1, spec=spec, durability="power")
            self._tasks[spec.name] = known
        return known

    async def update(self, spec: TaskSpec, *, if_version: int = 0) -> Task:
        known = await self.task(spec.name)
        if if_version not in (0, known.version):
            raise VersionConflict(spec.name.encode(), if_version, known.version)
        task = msgspec.structs.replace(known, spec=spec, version=known.version + 1)
        self._tasks[spec.name] = task
        return task

    async def task(self, task: str) -> Task:
        for known in self._tasks.values():
            if task in (known.id, known.name):
                return known
        raise NotFound(f"no task {task!r}")

    async def tasks(self, *, status: str = "", limit: int = 100, after: str = "") -> list[Task]:
        found = sorted(name for name in self._tasks if name > after)
        listed = [self._tasks[name] for name in found]
        return [task for task in listed if status in ("", task.status)][:limit]

    async def set_task_status(self, task: str, status: str) -> Task:
        found = msgspec.structs.replace(await self.task(task), status=status)
        self._tasks[found.name] = found
        return found

    async def unregister(self, task: str, reason: str = "") -> Task:
        found = await self.task(task)
        return self._tasks.pop(found.name)

    # Executions

    async def invoke(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = PLAIN
    ) -> Execution:
        self.calls.append("invoke")
        record = self._accept(task, input, invocation, "sync")
        if record.task_name == "boom":
            raise RuntimeError("a broken invariant")
        if record.task_name == "wait":
            record.status = "running"
            await self._run(record)
            return record
        await self._finish(record, input)
        return record

    async def _run(self, record: Execution) -> None:
        self.started.set()
        self._running += 1
        try:
            await self.wait(record.id)
        except asyncio.CancelledError:
            self.ended.append(record.id)
            record.status = "terminated"
            self.gone.set()
            raise
        finally:
            self._running -= 1
            async with self._changed:
                self._changed.notify_all()

    async def submit(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = PLAIN
    ) -> Execution:
        self.calls.append("submit")
        return self._accept(task, input, invocation, "async")

    def _accept(
        self, task: str | TaskSpec, input: bytes, invocation: Invocation, mode: str
    ) -> Execution:
        if self.draining:
            raise NodeClosed("the node is draining and takes no more work")
        name = task.name if isinstance(task, TaskSpec) else task.removeprefix("task-")
        if not isinstance(task, TaskSpec) and name not in (*BUILT_IN, *self._tasks):
            raise NotFound(f"no task {task!r}")
        self.inputs.append((input, invocation))
        id = invocation.execution_id or f"execution-{next(self._ids):04}"
        record = Execution(
            id=id, task_id=f"task-{name}", task_name=name, mode=mode, created_ns=1_500_000_000,
            function=invocation.function, invocation_id=invocation.invocation_id,
            content_type=invocation.content_type, session_id=invocation.session_id,
            metadata=dict(invocation.metadata), instance_id="instance-1",
            priority=invocation.priority or "normal", durability="crash",
        )  # fmt: skip
        self._executions[id] = record
        return record

    async def _finish(self, record: Execution, output: bytes) -> None:
        record.started_ns, record.finished_ns = 2_000_000_001, 3_000_000_000
        if record.task_name == "fail":
            record.status, record.cause = "failed", "exit"
            record.exit_code = 3
            record.error = ExecutionError(code="EXIT", message="it exited with 3")
        else:
            record.status, record.exit_code = "completed", 0
            record.output, record.output_bytes = output, len(output)
        async with self._changed:
            self._changed.notify_all()

    async def execution(self, id: str, *, include_output: bool = False) -> Execution:
        found = self._executions.get(id)
        if found is None:
            raise NotFound(f"no execution {id!r}")
        return found if include_output else msgspec.structs.replace(found, output=b"")

    async def executions(
        self, *, task: str = "", status: str = "", invocation_id: str = "", root: str = "",
        limit: int = 100, page_token: str = "",
    ) -> ExecutionPage:  # fmt: skip
        found = [
            record for record in reversed(self._executions.values())
            if task in ("", record.task_id, record.task_name)
            and status in ("", record.status)
            and invocation_id in ("", record.invocation_id)
            and (not root or (record.depth and record.root_id == root))
        ]  # fmt: skip
        start = int(page_token or 0)
        more = str(start + limit) if len(found) > start + limit else ""
        return ExecutionPage(tuple(found[start : start + limit]), more)

    async def wait(
        self, id: str, *, timeout_ns: int | None = None, include_output: bool = True
    ) -> Execution:
        async with self._changed:
            while not (record := await self.execution(id, include_output=include_output)).ended:
                await self._changed.wait()
        return record

    async def watch(self, *, id: str = "", task: str = "") -> AsyncIterator[Execution]:
        self.calls.append("watch")
        if id:
            yield await self.execution(id)
            yield await self.wait(id)
            return
        try:
            while True:
                async with self._changed:
                    await self._changed.wait()
                yield next(reversed(self._executions.values()))
        finally:
            self.gone.set()

    async def cancel(self, id: str, reason: str = "") -> Execution:
        record = self._executions.get(id)
        if record is None:
            raise NotFound(f"no execution {id!r}")
        if not record.ended:
            record.status, record.cause = "terminated", "cancelled"
            async with self._changed:
                self._changed.notify_all()
        return record

    async def remove(self, id: str) -> Execution:
        record = await self.execution(id)
        if not record.ended:
            raise InUse(f"execution {id!r} has not ended")
        return self._executions.pop(id)

    async def read_result(self, id: str) -> AsyncIterator[bytes]:
        record = await self.execution(id, include_output=True)
        yield self._results.get(id, record.output)

    async def logs(
        self, id: str, *, after_seq: int = 0, follow: bool = False
    ) -> AsyncIterator[list[LogLine]]:
        await self.execution(id)
        yield [line for line in self._logs.get(id, []) if line.seq > after_seq]

    # Instances

    async def instances(self, *, task: str = "") -> list[Instance]:
        found = self._instances.values()
        return [instance for instance in found if task in ("", instance.task_id)]

    async def destroy_instance(self, id: str, reason: str = "") -> Instance:
        if id not in self._instances:
            raise NotFound(f"no instance {id!r}")
        return msgspec.structs.replace(self._instances.pop(id), status="terminated")

    # Objects

    async def put_object(
        self, key: str, value: bytes, *, metadata: Mapping[str, str] | None = None,
        overwrite: bool = True, if_version: int | None = None, durable: bool = False,
    ) -> ObjectInfo:  # fmt: skip
        known = self._objects.get(key)
        at = known[0].version if known else 0
        if known is not None and not overwrite:
            raise AlreadyExists(f"object {key!r} is there already")
        if if_version not in (None, at):
            raise VersionConflict(key.encode(), if_version, at)
        info = ObjectInfo(
            key=key, size=len(value), version=at + 1, metadata=dict(metadata or {}),
            created_ms=1, updated_ms=2, durability="power" if durable else "volatile",
        )  # fmt: skip
        self._objects[key] = (info, value)
        return info

    async def get_object(self, key: str) -> tuple[ObjectInfo, bytes]:
        if key not in self._objects:
            raise ObjectNotFound(f"no object {key!r}")
        return self._objects[key]

    async def stat_object(self, key: str) -> ObjectInfo:
        return (await self.get_object(key))[0]

    async def list_objects(
        self, prefix: str = "", *, limit: int = 1000, start_after: str = ""
    ) -> ObjectPage:
        keys = sorted(k for k in self._objects if k.startswith(prefix) and k > start_after)
        infos = tuple(self._objects[key][0] for key in keys[:limit])
        return ObjectPage(infos, keys[limit - 1] if len(keys) > limit else "")

    async def delete_object(
        self, key: str, *, force: bool = False, if_version: int | None = None
    ) -> None:
        info = await self.stat_object(key)
        if if_version not in (None, info.version):
            raise VersionConflict(key.encode(), if_version, info.version)
        if (info.pinned or info.ref_count) and not force:
            raise ObjectInUse(f"object {key!r} is pinned or referenced")
        del self._objects[key]

    async def _change(self, key: str, **fields: int | bool) -> ObjectInfo:
        info, value = await self.get_object(key)
        self._objects[key] = (msgspec.structs.replace(info, **fields), value)
        return self._objects[key][0]

    async def _at(self, key: str, if_version: int | None) -> ObjectInfo:
        info = await self.stat_object(key)
        if if_version not in (None, info.version):
            raise VersionConflict(key.encode(), if_version or 0, info.version)
        return info

    async def add_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> int:
        info = await self._at(key, if_version)
        return (await self._change(key, ref_count=info.ref_count + count)).ref_count

    async def remove_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> tuple[int, bool]:
        left = (await self._at(key, if_version)).ref_count - count
        if left <= 0:
            del self._objects[key]
            return 0, True
        return (await self._change(key, ref_count=left)).ref_count, False

    async def pin_object(self, key: str, *, if_version: int | None = None) -> None:
        await self._at(key, if_version)
        await self._change(key, pinned=True)

    async def unpin_object(self, key: str, *, if_version: int | None = None) -> None:
        await self._at(key, if_version)
        await self._change(key, pinned=False)

    async def watch_objects(
        self, prefix: str = "", *, existing: bool = False
    ) -> AsyncIterator[ObjectChange]:
        """Those that are there now, and their end."""
        for key, (info, _) in sorted(self._objects.items()):
            if existing and key.startswith(prefix):
                yield ObjectChange(info=info)

    async def snapshot_objects(self, prefix: str = "") -> AsyncIterator[tuple[ObjectInfo, bytes]]:
        for key, kept in sorted(self._objects.copy().items()):
            if key.startswith(prefix):
                yield kept

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        for key, version in reads.items():
            at = self._objects[key][0].version if key in self._objects else 0
            if version != at:
                raise VersionConflict(key.encode(), version, at)
        versions = {}
        for key, value in writes.items():
            if value is None:
                self._objects.pop(key, None)
            else:
                versions[key] = (await self.put_object(key, value)).version
        return versions

    # Schedules

    async def add_schedule(self, spec: ScheduleSpec) -> Schedule:
        schedule = Schedule(id=f"schedule-{next(self._ids)}", spec=spec, next_ns=7)
        self._schedules[schedule.id] = schedule
        return schedule

    async def schedule(self, id: str) -> Schedule:
        if id not in self._schedules:
            raise NotFound(f"no schedule {id!r}")
        return self._schedules[id]

    async def schedules(self) -> list[Schedule]:
        return list(self._schedules.values())

    async def remove_schedule(self, id: str) -> Schedule:
        await self.schedule(id)
        return self._schedules.pop(id)

    # Models

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(name="m", kind="stub", available=True)]

    async def test_model(
        self, name: str, prompt: str = "", *, model: str = "", timeout_ns: int = 0
    ) -> ModelTest:
        if name != "m":
            raise NotFound(f"no model backend {name!r}")
        return ModelTest(backend="m", model=model, answer=f"{prompt} {timeout_ns}")

    # The node

    async def info(self) -> dict[str, str]:
        return {"name": "fake", "health": "ready"}

    async def stats(self) -> dict[str, dict[str, int]]:
        return {"executions": {"total": len(self._executions)}}

    async def drain(self, grace_ns: int = 0) -> None:
        self.calls.append(f"drain {grace_ns}")
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_ns / 1e9), self._changed:
                await self._changed.wait_for(lambda: not self._running)

    async def close(self) -> None:
        self.closed = True

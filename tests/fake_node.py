"""A node in memory whose guests are played: the stand-in of every test that needs a Node.

The rule: it passes the same contract suite as the real ones
(tests/unit/client/test_node_contract.py), so what a test finds with it holds for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec
from fake_executions import FakeExecutions
from fake_objects import FakeObjects

from spear.clock import Clock
from spear.errors import (
    AlreadyExists,
    Conflict,
    InUse,
    InvalidArgument,
    ModuleInvalid,
    NoBackend,
    NotFound,
)
from spear.records.execution import Execution, ExecutionPage, Instance, Invocation, LogLine
from spear.records.models import ModelInfo, ModelTest
from spear.records.schedule import Schedule, ScheduleSpec
from spear.records.task import Artifact, Task, TaskSpec

_CHUNK_BYTES = 64 << 10
_AS_IT_IS = Invocation()


class FakeNode(FakeObjects):
    """Give it to what wants a Node; close it at the end."""

    def __init__(self, clock: Clock | None = None) -> None:
        clock = clock or Clock()
        super().__init__(clock)
        self._clock = clock
        self._artifacts: dict[str, tuple[Artifact, bytes]] = {}
        self._tasks: dict[str, Task] = {}
        self._schedules: dict[str, Schedule] = {}
        self._instances: dict[str, Instance] = {}
        self.runs = FakeExecutions(clock, "fake")
        self._backups: set[str] = set()
        self.drained_ns: int | None = None

    async def close(self) -> None:
        await self.runs.close()

    # Artifacts
    async def put_artifact(
        self, data: bytes | AsyncIterator[bytes], *, digest: str = "", name: str = "",
        version: str = "", runtime: str = "wasm", dependencies: Sequence[str] = (),
    ) -> Artifact:  # fmt: skip
        if not isinstance(data, bytes):
            data = b"".join([part async for part in data])
        found = hashlib.sha256(data).hexdigest()
        if digest and digest != found:
            raise InvalidArgument(f"the bytes have the sha256 {found}, not {digest}")
        if runtime == "wasm" and not data.startswith(b"\0asm"):
            raise ModuleInvalid("this is no wasm module: it does not begin with \\0asm")
        for needed in dependencies:
            await self.artifact(needed)
        if found not in self._artifacts:
            artifact = Artifact(
                digest=found, size=len(data), runtime=runtime, name=name, version=version,
                dependencies=tuple(dependencies), created_ns=self._clock.now_ns(),
                durability="power",
            )  # fmt: skip
            self._artifacts[found] = (artifact, data)
        return self._artifacts[found][0]

    async def artifact(self, digest: str) -> Artifact:
        fitting = [found for found in self._artifacts if found.startswith(digest)]
        if len(digest) < 8 or len(fitting) != 1:
            raise NotFound(f"no artifact {digest}")
        return self._artifacts[fitting[0]][0]

    async def artifacts(self, *, limit: int = 100, after: str = "") -> list[Artifact]:
        found = sorted(digest for digest in self._artifacts if digest > after)
        return [self._artifacts[digest][0] for digest in found[:limit]]

    async def read_artifact(self, digest: str) -> AsyncIterator[bytes]:
        data = self._artifacts[(await self.artifact(digest)).digest][1]
        for start in range(0, len(data), _CHUNK_BYTES):
            yield data[start : start + _CHUNK_BYTES]

    async def delete_artifact(self, digest: str) -> Artifact:
        found = await self.artifact(digest)
        for task in self._tasks.values():
            if task.spec.artifact == found.digest:
                raise InUse(f"artifact {found.digest} is needed by task {task.name}")
        for other, _ in self._artifacts.values():
            if found.digest in other.dependencies:
                raise InUse(f"artifact {found.digest} is needed by artifact {other.digest}")
        del self._artifacts[found.digest]
        return found

    # Tasks
    async def register(self, spec: TaskSpec) -> Task:
        await self.artifact(spec.artifact)
        known = next((task for task in self._tasks.values() if task.name == spec.name), None)
        if known is not None and known.spec != spec:
            raise AlreadyExists(
                f"task {spec.name!r} has another spec; update makes a version of it"
            )
        if known is None:
            known = Task(
                id=self.runs.ids.next(), version=1, spec=spec, status="active",
                registered_ns=self._clock.now_ns(), durability="power",
            )  # fmt: skip
            self._tasks[known.id] = known
        return known

    async def update(self, spec: TaskSpec, *, if_version: int = 0) -> Task:
        await self.artifact(spec.artifact)
        known = await self.task(spec.name)
        if if_version not in (0, known.version):
            raise Conflict(f"task {spec.name!r} is at version {known.version}, not {if_version}")
        return self._keep(known, spec=spec, version=known.version + 1)

    def _keep(self, task: Task, **fields: object) -> Task:
        changed = msgspec.structs.replace(task, updated_ns=self._clock.now_ns(), **fields)
        self._tasks[task.id] = changed
        return changed

    async def task(self, task: str) -> Task:
        for found in self._tasks.values():
            if task in (found.id, found.name):
                return found
        raise NotFound(f"no task {task!r}")

    async def tasks(self, *, status: str = "", limit: int = 100, after: str = "") -> list[Task]:
        found = sorted(self._tasks.values(), key=lambda task: task.name)
        found = [task for task in found if task.name > after and status in ("", task.status)]
        return found[:limit]

    async def set_task_status(self, task: str, status: str) -> Task:
        if status not in ("active", "inactive"):
            raise InvalidArgument(f"a task is active or inactive, not {status!r}")
        return self._keep(await self.task(task), status=status)

    async def unregister(self, task: str, reason: str = "") -> Task:
        found = await self.task(task)
        del self._tasks[found.id]
        return found

    # Executions
    async def _what(self, task: str | TaskSpec) -> tuple[TaskSpec, Task | None]:
        if isinstance(task, TaskSpec):
            await self.artifact(task.artifact)
            return task, None
        found = await self.task(task)
        if found.status == "inactive":
            raise Conflict(f"task {found.name!r} is inactive")
        return found.spec, found

    async def invoke(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = _AS_IT_IS
    ) -> Execution:
        spec, known = await self._what(task)
        run = self.runs.start(spec, known, input, invocation, "sync")
        try:
            await self.runs.ended(run)
        finally:
            await self.runs.cancel(run, "the caller has gone")
        return run.shown(include_output=True)

    async def submit(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = _AS_IT_IS
    ) -> Execution:
        spec, known = await self._what(task)
        run = self.runs.start(spec, known, input, invocation, "async")
        return run.shown(include_output=False)

    async def execution(self, id: str, *, include_output: bool = False) -> Execution:
        return self.runs.find(id).shown(include_output=include_output)

    async def executions(
        self, *, task: str = "", status: str = "", invocation_id: str = "", root: str = "",
        limit: int = 100, page_token: str = "",
    ) -> ExecutionPage:  # fmt: skip
        return self.runs.page(task, status, invocation_id, root, limit, page_token)

    async def wait(
        self, id: str, *, timeout_ns: int | None = None, include_output: bool = True
    ) -> Execution:
        run = self.runs.find(id)
        await self.runs.ended(run, timeout_ns)
        return run.shown(include_output=include_output)

    def watch(self, *, id: str = "", task: str = "") -> AsyncIterator[Execution]:
        return self.runs.watch(id, task)

    async def cancel(self, id: str, reason: str = "") -> Execution:
        run = self.runs.find(id)
        await self.runs.cancel(run, reason)
        return run.shown(include_output=False)

    async def remove(self, id: str) -> Execution:
        return self.runs.remove(self.runs.find(id))

    async def read_result(self, id: str) -> AsyncIterator[bytes]:
        output = self.runs.find(id).output
        for start in range(0, len(output), _CHUNK_BYTES):
            yield output[start : start + _CHUNK_BYTES]

    def logs(
        self, id: str, *, after_seq: int = 0, follow: bool = False
    ) -> AsyncIterator[list[LogLine]]:
        return self.runs.logs(id, after_seq, follow)

    # Instances: a fake node has those that a test gives it.
    def add_instance(self, instance: Instance) -> None:
        self._instances[instance.id] = instance

    async def instances(self, *, task: str = "") -> list[Instance]:
        found = self._instances.values()
        return [one for one in found if task in ("", one.task_name, one.task_id)]

    async def destroy_instance(self, id: str, reason: str = "") -> Instance:
        if id not in self._instances:
            raise NotFound(f"no instance {id}")
        return msgspec.structs.replace(self._instances.pop(id), status="terminated")

    # Schedules: they are kept, and never due.
    async def add_schedule(self, spec: ScheduleSpec) -> Schedule:
        await self.task(spec.task)
        if sum(map(bool, (spec.cron, spec.every_ns, spec.at_ns))) != 1:
            raise InvalidArgument("exactly one of cron, every and at says when")
        now_ns = self._clock.now_ns()
        found = Schedule(
            id=self.runs.ids.next(), spec=spec, created_ns=now_ns, durability="power",
            next_ns=spec.at_ns or now_ns + (spec.every_ns or 60 * 10**9),
        )  # fmt: skip
        self._schedules[found.id] = found
        return found

    async def schedule(self, id: str) -> Schedule:
        if id not in self._schedules:
            raise NotFound(f"no schedule {id}")
        return self._schedules[id]

    async def schedules(self) -> list[Schedule]:
        return list(self._schedules.values())

    async def remove_schedule(self, id: str) -> Schedule:
        found = await self.schedule(id)
        del self._schedules[id]
        return found

    # Models
    async def models(self) -> list[ModelInfo]:
        stub = ModelInfo(
            name="stub",
            kind="stub",
            hosting="local",
            available=True,
            health="closed",
            source="default",
            ops=("chat_completions",),
        )
        keyless = ModelInfo(
            name="gpt",
            kind="openai_chat_completion",
            hosting="remote",
            model="gpt-4o",
            health="closed",
            source="config",
            reason="the environment variable GPT_KEY is not set",
        )
        return [stub, keyless]

    async def test_model(
        self, name: str, prompt: str = "", *, model: str = "", timeout_ns: int = 0
    ) -> ModelTest:
        if name == "gpt":
            raise NoBackend("'gpt' is not available: the environment variable GPT_KEY is not set")
        if name != "stub":
            raise NotFound(f"no model backend {name!r}: known are stub, gpt")
        return ModelTest(
            backend="stub",
            model=model or "stub",
            answer=f"to {prompt or 'ready'}",
            latency_ns=1_500_000,
            prompt_tokens=6,
            completion_tokens=3,
        )

    # The node
    async def info(self) -> dict[str, str]:
        return {
            "node_name": "fake",
            "version": "0.1.0",
            "durability": "volatile",
            "health": "serving",
        }

    async def stats(self) -> dict[str, dict[str, int]]:
        return {"executions": {"total": len(self.runs.page("", "", "", "", 10**9, "").executions)}}

    async def collect_garbage(self) -> dict[str, int]:
        return {"executions": 0, "files": 0}

    async def backup(self, folder: str) -> dict[str, int]:
        if folder in self._backups:
            raise AlreadyExists(f"{folder!r} is there already: back up into a new folder")
        self._backups.add(folder)
        return {"rows": len(self._tasks), "files": len(self._artifacts)}

    async def drain(self, grace_ns: int = 0) -> None:
        self.drained_ns = grace_ns

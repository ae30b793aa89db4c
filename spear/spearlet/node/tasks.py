"""The registered tasks: all in memory, each change kept before it is answered.

The rule: a name belongs to one task; a task's spec changes only as a whole, and each change is its
next version. Executions hold the version they were accepted with, so an update never changes what
runs or waits.
"""

from __future__ import annotations

import msgspec

from spear._core.tasknames import check_task_name
from spear.errors import AlreadyExists, Conflict, InvalidArgument, KvError, NotFound
from spear.records.task import PRIORITIES, RUNTIMES, TASK_STATUSES, Task, TaskSpec
from spear.spearlet.node import rows
from spear.spearlet.node.plan import Plan
from spear.spearlet.taskconfig import check_config
from spear.spearlet.webhooks.delivery import check_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear.clock import Clock, Ids
    from spear.config import Config
    from spear.kv.interface import LocalKv
    from spear.spearlet.node.journal import Journal

_ENDPOINT_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_SCAN = 1000
_NOT_SERVED = {
    "process": "this build runs no native programs yet",
    "container": "this build runs no containers yet",
}


class Registered:
    """A task and how its executions are run."""

    __slots__ = ("plan", "task")

    def __init__(self, task: Task, plan: Plan) -> None:
        self.task, self.plan = task, plan


class Tasks:
    """One node's tasks; on its loop only."""

    def __init__(
        self, kv: LocalKv, journal: Journal, clock: Clock, ids: Ids, config: Config
    ) -> None:
        self._kv, self._journal, self._clock, self._ids = kv, journal, clock, ids
        self._config = config
        self._by_id: dict[str, Registered] = {}
        self._by_name: dict[str, Registered] = {}
        self._endpoints: dict[str, str] = {}  # name of the endpoint -> the task's
        self._changing: dict[str, TaskSpec | None] = {}  # names, and what is being written there

    def load(self) -> None:
        """Takes in what is registered; once, at start."""
        after = b""
        while found := self._kv.scan(rows.TASKS, after=after, limit=_SCAN):
            for _, value in found:
                self._take(rows.decode_task(value))
            after = found[-1][0]

    def find(self, task: str) -> Registered:
        """By its id or its name. Raises NotFound."""
        found = self._by_name.get(task) or self._by_id.get(task)
        if found is None:
            raise NotFound(f"no task {task!r} is registered on this node")
        return found

    def all(self) -> list[Registered]:
        return [*self._by_id.values()]

    def list(self, status: str, limit: int, after: str) -> list[Task]:
        """By name, behind the name `after`."""
        names = sorted(name for name in self._by_name if name > after)
        found = (self._by_name[name].task for name in names)
        return [task for task in found if not status or task.status == status][:limit]

    def using(self, digest: str) -> Iterator[str]:
        """The names of the tasks that need this artifact."""
        known = ((name, registered.task.spec) for name, registered in self._by_name.items())
        for name, spec in (*known, *self._changing.items()):
            if spec is not None and spec.artifact == digest:
                yield name

    def spec_of(self, id: str, version: int) -> TaskSpec | None:
        """The spec of a version, also an old one; None where the task is gone."""
        found = self._by_id.get(id)
        if found is not None and found.task.version == version:
            return found.task.spec
        row = self._kv.get(rows.task_version_key(id, version))
        return None if row is None else rows.decode_spec(row)

    async def register(self, spec: TaskSpec) -> Task:
        """Raises AlreadyExists where the name has another spec."""
        spec = self.checked(spec)
        known = self._by_name.get(spec.name)
        if known is not None:
            if known.task.spec == spec:
                return known.task
            raise AlreadyExists(
                f"task {spec.name!r} is registered with another spec (version "
                f"{known.task.version}): update it, or choose another name"
            )
        now_ns = self._clock.now_ns()
        return await self._keep(
            Task(
                id=self._ids.next(),
                version=1,
                spec=spec,
                registered_ns=now_ns,
                updated_ns=now_ns,
                durability=self._journal.class_of(power=True),
            )
        )

    async def update(self, spec: TaskSpec, if_version: int) -> Task:
        """The next version. Raises NotFound; Conflict where `if_version` is not the one found."""
        spec = self.checked(spec)
        task = self.find(spec.name).task
        if if_version not in (0, task.version):
            raise Conflict(f"task {spec.name!r} is at version {task.version}, not {if_version}")
        if task.spec == spec:
            return task
        return await self._keep(
            msgspec.structs.replace(
                task, spec=spec, version=task.version + 1, updated_ns=self._clock.now_ns()
            )
        )

    async def set_status(self, name: str, status: str) -> Task:
        if status not in TASK_STATUSES:
            raise InvalidArgument(f"no status {status!r}: expected one of {_one_of(TASK_STATUSES)}")
        task = self.find(name).task
        if task.status == status:
            return task
        return await self._keep(
            msgspec.structs.replace(task, status=status, updated_ns=self._clock.now_ns())
        )

    async def unregister(self, name: str) -> Task:
        """Raises NotFound."""
        task = self.find(name).task
        self._hold(task.name, None)
        try:
            self._journal.delete(rows.task_key(task.id))
            for key, _ in self._kv.scan(rows.task_version_prefix(task.id), limit=task.version):
                self._journal.delete(key)
            await self._journal.kept()
        finally:
            del self._changing[task.name]
        self._drop(task)
        return task

    def checked(self, spec: TaskSpec) -> TaskSpec:
        """The spec, once it can be run here. Raises InvalidArgument, NotFound."""
        check_task_name(spec.name)
        if spec.runtime not in RUNTIMES:
            raise InvalidArgument(
                f"no runtime {spec.runtime!r}: expected one of {_one_of(RUNTIMES)}"
            )
        if spec.runtime in _NOT_SERVED:
            raise InvalidArgument(f"runtime {spec.runtime!r}: {_NOT_SERVED[spec.runtime]}")
        if spec.config:
            check_config(spec.config)
        if spec.priority not in PRIORITIES:
            raise InvalidArgument(
                f"no priority {spec.priority!r}: expected one of {_one_of(PRIORITIES)}"
            )
        if spec.webhook:
            check_url(spec.webhook)
        spec = msgspec.structs.replace(spec, endpoint=spec.endpoint.lower())
        self._check_endpoint(spec)
        if self._kv.get(rows.artifact_key(spec.artifact)) is None:
            raise NotFound(f"the artifact {spec.artifact!r} is not on this node: put it first")
        Plan(spec, self._config).directories()
        return spec

    def _check_endpoint(self, spec: TaskSpec) -> None:
        name = spec.endpoint
        if name and not (len(name) <= 64 and set(name) <= _ENDPOINT_LETTERS):
            raise InvalidArgument(
                f"endpoint {name!r}: expected 1 to 64 letters, digits, '_' and '-'"
            )
        coming = {new.endpoint: owner for owner, new in self._changing.items() if new is not None}
        owner = (self._endpoints.get(name) or coming.get(name, spec.name)) if name else spec.name
        if owner != spec.name:
            raise AlreadyExists(f"endpoint {name!r} is that of task {owner!r}")

    async def _keep(self, task: Task) -> Task:
        self._hold(task.name, task.spec)
        try:
            self._journal.put(rows.task_key(task.id), rows.encode(task))
            self._journal.put(rows.task_version_key(task.id, task.version), rows.encode(task.spec))
            await self._journal.kept()
        except KvError:
            self._take_back(task)
            raise
        finally:
            del self._changing[task.name]
        self._take(task)
        return task

    def _take_back(self, task: Task) -> None:
        """Its rows may be there although they were refused: what is so is written over them."""
        known = self._by_id.get(task.id)
        if known is None:
            self._journal.delete(rows.task_key(task.id))
        else:
            self._journal.put(rows.task_key(task.id), rows.encode(known.task))
        if known is None or known.task.version != task.version:
            self._journal.delete(rows.task_version_key(task.id, task.version))
        self._journal.then(_ignore)

    def _hold(self, name: str, spec: TaskSpec | None) -> None:
        """One change of a name at a time, so that none is decided on what is about to change."""
        if name in self._changing:
            raise Conflict(f"task {name!r} is being changed by another call: try again")
        self._changing[name] = spec

    def _take(self, task: Task) -> None:
        known = self._by_id.get(task.id)
        if known is not None:
            self._drop(known.task)
        found = Registered(task, Plan(task.spec, self._config))
        self._by_id[task.id] = self._by_name[task.name] = found
        if task.spec.endpoint:
            self._endpoints[task.spec.endpoint] = task.name

    def _drop(self, task: Task) -> None:
        del self._by_id[task.id], self._by_name[task.name]
        self._endpoints.pop(task.spec.endpoint, None)


def _one_of(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _ignore(_: Exception | None) -> None: ...

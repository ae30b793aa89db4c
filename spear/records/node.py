"""What a node does for its callers; the one interface of the node's own services and of clients.

The rule: plain async methods, from plain values to records; errors are those of spear.errors.
Implementations: spearlet/node_services.py (in the daemon, behind both doors) and client/client.py
(over a door); one contract suite runs over both. Only type checkers import this file.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Protocol

from spear.records.execution import Execution, ExecutionPage, Instance, Invocation, LogLine
from spear.records.models import ModelInfo, ModelTest
from spear.records.objects import ObjectChange, ObjectInfo, ObjectPage
from spear.records.schedule import Schedule, ScheduleSpec
from spear.records.task import Artifact, Task, TaskSpec

Bytes = bytes | AsyncIterator[bytes]


class Node(Protocol):
    """Methods with AsyncIterator results are plain functions that give an async generator."""

    # Artifacts
    async def put_artifact(
        self, data: Bytes, *, digest: str = "", name: str = "", version: str = "",
        runtime: str = "wasm", dependencies: Sequence[str] = (),
    ) -> Artifact:  # fmt: skip
        """Keeps the bytes (class power); the same bytes again give the same artifact. With
        `digest` they must have that sha256. Raises InvalidArgument, ModuleInvalid, StoreFull."""

    async def artifact(self, digest: str) -> Artifact:
        """By its digest or a unique beginning of 8 digits or more. Raises NotFound."""

    async def artifacts(self, *, limit: int = 100, after: str = "") -> list[Artifact]: ...
    def read_artifact(self, digest: str) -> AsyncIterator[bytes]: ...
    async def delete_artifact(self, digest: str) -> Artifact:
        """Raises NotFound, and InUse while a task, an execution or an artifact needs it."""

    # Tasks; `task` is an id or a name
    async def register(self, spec: TaskSpec) -> Task:
        """Raises AlreadyExists where the name has another spec; the same spec is no error."""

    async def update(self, spec: TaskSpec, *, if_version: int = 0) -> Task:
        """The task of that name gets the spec as its next version. Raises NotFound, Conflict."""

    async def task(self, task: str) -> Task: ...
    async def tasks(self, *, status: str = "", limit: int = 100, after: str = "") -> list[Task]:
        """By name."""

    async def set_task_status(self, task: str, status: str) -> Task:
        """`inactive` refuses new invocations."""

    async def unregister(self, task: str, reason: str = "") -> Task:
        """What runs goes on to its end; what waits is terminated. The records stay."""

    # Executions
    async def invoke(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = ...
    ) -> Execution:
        """Runs the task and waits; the record with its output. When the caller goes away the guest
        is ended, unless somebody else waits for it. Raises NotFound, QueueFull (with
        `retry_after_ms`), InvalidArgument."""

    async def submit(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = ...
    ) -> Execution:
        """Accepts an execution (class power) and gives its record at once."""

    async def execution(self, id: str, *, include_output: bool = False) -> Execution: ...
    async def executions(
        self, *, task: str = "", status: str = "", invocation_id: str = "", root: str = "",
        limit: int = 100, page_token: str = "",
    ) -> ExecutionPage:  # fmt: skip
        """From the newest on. With `root` those that the execution of that id called, and those
        that they called: its tree, without itself."""

    async def wait(
        self, id: str, *, timeout_ns: int | None = None, include_output: bool = True
    ) -> Execution:
        """The record once ended. DeadlineExceeded after `timeout_ns`; the execution goes on."""

    def watch(self, *, id: str = "", task: str = "") -> AsyncIterator[Execution]:
        """Records as they change, from now on (with `id`: first as it is now, and to its end)."""

    async def cancel(self, id: str, reason: str = "") -> Execution:
        """Ends it wherever it is; the record once ended."""

    async def remove(self, id: str) -> Execution:
        """Forgets an ended execution, its result and its log. Raises NotFound, InUse."""

    def read_result(self, id: str) -> AsyncIterator[bytes]: ...
    def logs(
        self, id: str, *, after_seq: int = 0, follow: bool = False
    ) -> AsyncIterator[list[LogLine]]:
        """Lines in order without gaps, in batches; with `follow` until the execution has ended."""

    # Instances
    async def instances(self, *, task: str = "") -> list[Instance]: ...
    async def destroy_instance(self, id: str, reason: str = "") -> Instance: ...

    # Objects
    async def put_object(
        self, key: str, value: bytes, *, metadata: Mapping[str, str] | None = None,
        overwrite: bool = True, if_version: int | None = None, durable: bool = False,
    ) -> ObjectInfo: ...  # fmt: skip
    async def get_object(self, key: str) -> tuple[ObjectInfo, bytes]: ...
    async def stat_object(self, key: str) -> ObjectInfo: ...
    async def list_objects(
        self, prefix: str = "", *, limit: int = 1000, start_after: str = ""
    ) -> ObjectPage: ...
    async def delete_object(
        self, key: str, *, force: bool = False, if_version: int | None = None
    ) -> None: ...
    async def add_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> int: ...
    async def remove_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> tuple[int, bool]:
        """How many are left, and whether the object went with the last one."""

    async def pin_object(self, key: str, *, if_version: int | None = None) -> None: ...
    async def unpin_object(self, key: str, *, if_version: int | None = None) -> None: ...
    def watch_objects(
        self, prefix: str = "", *, existing: bool = False
    ) -> AsyncIterator[ObjectChange]:
        """How the values under a prefix change, whoever changes them, from now on; with `existing`
        first each object as it is. A slow watcher hears the latest of each. Raises QueueFull where
        more objects lie there than are watched at once."""

    def snapshot_objects(self, prefix: str = "") -> AsyncIterator[tuple[ObjectInfo, bytes]]:
        """All objects under a prefix with their values, by key, as they were at the moment when the
        first was asked for, whoever changes them while they are read; references and pins as they
        are now, none of what has another value by now. Their versions may be the reads of
        `transact`. Raises QueueFull where too many are open, SnapshotExpired where one is read for
        more than a minute, what it holds is in the way of a write in a full store, or what had to
        make room was changed before it was read."""

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        """All writes (None: delete) if every read is still at its version, else VersionConflict.
        The new versions."""

    # Schedules
    async def add_schedule(self, spec: ScheduleSpec) -> Schedule: ...
    async def schedule(self, id: str) -> Schedule: ...
    async def schedules(self) -> list[Schedule]: ...
    async def remove_schedule(self, id: str) -> Schedule: ...

    # Models
    async def models(self) -> list[ModelInfo]:
        """Every model backend as it stands, those that cannot be asked with the reason."""

    async def test_model(
        self, name: str, prompt: str = "", *, model: str = "", timeout_ns: int = 0
    ) -> ModelTest:
        """Asks that backend for a few words, once and without another to fall back on;
        `model` for one that has none of its own. Raises NotFound, ModelError."""

    # The node
    async def info(self) -> dict[str, str]:
        """Name, version, addresses, data directory, durability, since when it runs, health."""

    async def stats(self) -> dict[str, dict[str, int]]: ...
    async def collect_garbage(self) -> dict[str, int]:
        """Forgets and removes what is beyond the limits or named by nothing; how many of each."""

    async def backup(self, folder: str) -> dict[str, int]:
        """A consistent copy of tasks, executions, artifacts, results and durable objects in a new
        folder on the node, while it works. Raises AlreadyExists, KvFull."""

    async def drain(self, grace_ns: int = 0) -> None:
        """Takes no more work, waits up to `grace_ns` for what runs, then the daemon ends."""


class PromptNode(Node, Protocol):
    """A node in this process. Its prompt methods need no task (see rpc/method.py)."""

    def invoke_at_once(
        self, task: str | TaskSpec, input: bytes, invocation: Invocation
    ) -> Awaitable[Execution] | list[Future[Execution]]:
        """As `invoke`; where it has ended and is only to be kept, the list of who is told then, for
        the caller to be added to. One that stands there cannot end it by going away."""

"""Tasks and artifacts: what is registered once and invoked many times.

The rule: plain values, the same ones in the store, on the wire and in a caller's hands. Text and
numbers here are checked already; units stand in the names, 0 means "as the node is configured"
unless said otherwise.
"""

from __future__ import annotations

import msgspec

PRIORITIES = ("urgent", "high", "normal", "low")
RUNTIMES = ("wasm", "process", "container")
TASK_STATUSES = ("registered", "active", "inactive")


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Of one execution; 0: as the node is configured."""

    timeout_ns: int = 0
    memory_bytes: int = 0
    output_bytes: int = 0
    log_bytes: int = 0
    fuel: int = 0  # 0: not counted


class Retry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`attempts` in all, the first included. The wait before attempt n + 1 is drawn from 0 to
    min(backoff_max_ns, backoff_ns * 2**(n - 1)) (full jitter). `on` names the error codes that
    are worth another attempt; OUTCOME_UNKNOWN is among them only if named."""

    attempts: int = 1
    backoff_ns: int = 100_000_000
    backoff_max_ns: int = 30_000_000_000
    on: tuple[str, ...] = ("TRAP", "DEADLINE", "NODE_BUSY")


class Pool(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Warm instances of a reactor: `min` are kept, `max` may be, idle ones go after `idle_ns`.
    `isolation`: `shared` (a call finds the memory as the last one left it) or `fresh`."""

    min: int = 0
    max: int = 0  # 0: as many as the task may run at once
    idle_ns: int = 60_000_000_000
    isolation: str = "fresh"


class Resources(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Reserved on the node while an execution runs; 0: nothing."""

    cpu_millis: int = 0  # 1000: one processor
    memory_bytes: int = 0


class Directory(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A directory of the node that the guest sees as `guest`."""

    host: str
    guest: str
    writable: bool = False


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a task is run. `artifact` is the digest of bytes that the node has, in hex; a value of
    `env` that begins with "env:" in `env_from` is taken from the node's own environment at start
    and is never stored or shown."""

    name: str
    artifact: str
    runtime: str = "wasm"
    description: str = ""
    entry: str = ""  # exported function; empty: `_start`
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    env_from: dict[str, str] = {}  # name for the guest -> name in the node's environment
    config: dict[str, str] = {}
    metadata: dict[str, str] = {}
    endpoint: str = ""  # [a-z0-9_-]{1,64}, unique
    priority: str = "normal"
    concurrency: int = 0  # executions at once; 0: as the node allows
    queue: int = 0  # waiting ones; 0: as the node is configured
    limits: Limits = Limits()
    resources: Resources = Resources()
    retry: Retry = Retry()
    pool: Pool = Pool()
    dirs: tuple[Directory, ...] = ()
    object_grants: tuple[str, ...] = ()
    webhook: str = ""  # told of every end; http or https


class Task(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A registered task. `version` counts the specs it has had, from 1; executions name theirs."""

    id: str
    version: int
    spec: TaskSpec
    status: str = "registered"
    registered_ns: int = 0  # Unix time
    updated_ns: int = 0
    durability: str = "volatile"

    @property
    def name(self) -> str:
        return self.spec.name


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Bytes by their sha256 (`digest`, hex). `name` and `version` are the owner's own words."""

    digest: str
    size: int
    runtime: str = "wasm"
    name: str = ""
    version: str = ""
    dependencies: tuple[str, ...] = ()  # digests of artifacts that must stay as long as this one
    created_ns: int = 0
    durability: str = "volatile"

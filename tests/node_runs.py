"""Nodes in tests: over a store that outlives them, with guests that the test plays.

Rule: a crash is a node that is abandoned: its store takes no more writes, its guests are never
heard of again, and another node is opened over the rows that were kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from manual_clock import ManualClock

from spear import config as configuration
from spear.errors import KvFull
from spear.kv.memory import MemoryKv
from spear.records.task import TaskSpec
from spear.runtime.stub import StubRun, StubRuntime
from spear.spearlet.logs.store import LogLimits, LogStore
from spear.spearlet.node.opening import OpenNode, open_node
from spear.spearlet.node.services import NodeServices
from spear.telemetry.redact import Redactor

CODE = b"stub: a guest that the test plays"
DIGEST = hashlib.sha256(CODE).hexdigest()
HANG_S = 30.0
INSTANT = 1  # nanosecond: a back-off that is over at once


class Store(MemoryKv):
    """Rows that outlive a node; those that were synced outlive a power cut."""

    def __init__(self) -> None:
        super().__init__()
        self._synced: dict[bytes, bytes] = {}

    def sync(self) -> None:
        self._synced = dict(self._rows)

    def cut_power(self) -> None:
        self._rows = dict(self._synced)
        self._keys = sorted(self._rows)


class Life:
    """The store as one node has it: `full` refuses writes; once `dead`, nothing that this node
    still does reaches the rows, and it is answered nothing."""

    durability = "power"

    def __init__(self, store: Store) -> None:
        self._store = store
        self.full = self.dead = False
        self.writes, self.dies_after = 0, 1 << 60
        self.sync_faults: list[KvFull] = []
        self.get, self.scan, self.stats = store.get, store.scan, store.stats
        self.backup = store.backup

    def write(self, batch: Any) -> int:
        if self.full:
            raise KvFull("no room (planted)")
        if self.dead or self.writes >= self.dies_after:
            self.dead = True
            raise Died
        self.writes += 1
        return self._store.write(batch)

    async def synced(self, sequence: int) -> None:
        if self.dead:
            raise Died
        self._store.sync()

    def when_synced(self, sequence: int, call: Any) -> None:
        """As in a store on disk: the flush begins a turn later."""

        def flush() -> None:
            if self.sync_faults:
                call(self.sync_faults.pop())
            elif not self.dead:
                self._store.sync()
                call(None)

        asyncio.get_running_loop().call_soon(flush)


class Died(BaseException):
    """Nothing after it happens, as after a SIGKILL."""


class Said:
    """The system log: what was said, in memory; `lines` with the fields."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lines: list[dict[str, object]] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)
        self.lines.append({"event": event, **fields})

    debug = warn = error = info

    def failure(self, event: str, error: BaseException, **fields: object) -> None:
        raise error


class Bench:
    """One node after the other over the same rows and files."""

    def __init__(self, folder: Path, guest: Any = None, **settings: object) -> None:
        self.folder, self.rows, self.said = folder, Store(), Said()
        self.store = Life(self.rows)
        self.clock = ManualClock()
        self.settings, self.guest = settings, guest
        self.runtime = StubRuntime()
        self.real = False  # guests are real ones
        self.node: OpenNode | None = None
        self.environ: Mapping[str, str] = {}

    @property
    def services(self) -> NodeServices:
        assert self.node is not None
        return self.node.services

    async def start(self) -> NodeServices:
        self.store = Life(self.rows)
        redactor = Redactor()
        guests_max = int(str(self.settings.get("executor.max_parked", 1000)))
        self.runtime = StubRuntime(self.guest, guests_max=guests_max)
        self.node = await open_node(
            configuration.load(
                flags={key: (key, value) for key, value in self.settings.items()},
                defaults={"node_name": "bench", "storage.data_dir": str(self.folder)},
                environ={},
            ),
            kv=self.store,  # type: ignore[arg-type]
            data_dir=str(self.folder),
            clock=self.clock,
            log=self.said,  # type: ignore[arg-type]
            logs=self._logs(redactor),
            redactor=redactor,
            environ=self.environ,
            runtime=None if self.real else self.runtime,
        )
        return self.node.services

    def _logs(self, redactor: Redactor) -> LogStore:
        folder = str(self.folder / "logs")
        return LogStore(folder, "bench", LogLimits(), self.clock, redactor, self.said)  # type: ignore[arg-type]

    async def logged(self, id: str) -> list[str]:
        return [line.message async for lines in self.services.logs(id) for line in lines]

    async def ready(self, **spec: Any) -> NodeServices:
        """Started, with its artifact and a task called `work`."""
        services = await self.start()
        await services.put_artifact(CODE)
        await services.register(TaskSpec(name="work", artifact=DIGEST, **spec))
        return services

    def trust(self) -> None:
        """All tasks have been quick of late: their guests begin on the loop's thread."""
        for registered in self.services._tasks.all():
            while not registered.plan.pace.quick:
                registered.plan.pace.took(0)

    async def crash(self, *, power: bool = False) -> NodeServices:
        """The process is gone, with `power` the machine too; another one starts."""
        self.store.dead = True
        await self.abandon()
        if power:
            self.rows.cut_power()
        return await self.start()

    async def abandon(self) -> None:
        """Stops what the dead node's loop still holds, without a step of its own; its real guests
        end, unheard."""
        assert self.node is not None
        await self.node._housekeeping.close()
        for work in self.node._executions.works():
            work.stop_timer()
        if self.real:
            runtime = self.node._parts.runtime
            await asyncio.get_running_loop().run_in_executor(None, runtime.close)
        self.node = None

    async def stop(self, grace_s: float = 0.0) -> None:
        if self.node is not None:
            node, self.node = self.node, None
            await node.close(grace_s)

    async def run(self, at: int = -1) -> StubRun:
        """The guest that was started at this place, once it is."""
        async with asyncio.timeout(HANG_S):
            while len(self.runtime.runs) <= (at if at >= 0 else 0):
                await asyncio.sleep(0)
        return self.runtime.runs[at]


@asynccontextmanager
async def bench(folder: Path, guest: Any = None, **settings: object) -> AsyncIterator[Bench]:
    made = Bench(folder, guest, **settings)
    try:
        yield made
    finally:
        await made.stop()


def answer(run: StubRun) -> None:
    """A guest that gives its input back at once."""
    run.write(run.invocation.stdin)
    run.finish()


async def until(fact: Any) -> None:
    """Turns of the loop until it is so."""
    async with asyncio.timeout(HANG_S):
        while not fact():
            await asyncio.sleep(0)

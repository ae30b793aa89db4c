"""A daemon with a real node, in one process after the other over the same data directory.

Rule: whoever looks at it asks through its doors, or at what it left on disk; how the clocks go on
for it (`pass_ns`) is the only thing that is played.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from daemon_child import READY_S, Child
from guest_runs import guest_bytes

from spear.client.client import Client
from spear.records.task import Task, TaskSpec

LOOK_S = 0.02


class RealDaemon(Child):
    """`client` is one on the socket of the process that lives."""

    client: Client

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = folder / "log"
        self._ahead, self._ahead_ns = folder / "ahead", 0
        self.pass_ns(0)

    async def live(self, *words: str, **environ: str) -> Client:
        """Starts a process, once the one before is gone; ready on all doors."""
        self.doors.clear()
        logged = ("--log-file", str(self.log))
        await self.ready("--real", *logged, *words, TEST_AHEAD=str(self._ahead), **environ)
        self.client = Client(f"unix:{self.doors['socket']}")
        return self.client

    async def die(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        await self.end()
        await self.client.close()
        self.ports.unlink()

    async def stop(self) -> None:
        if hasattr(self, "client"):
            await self.client.close()
        await super().stop()

    def pass_ns(self, ns: int) -> None:
        """So much time passes for it, on both clocks, also while there is no process."""
        self._ahead_ns += ns
        fresh = self._ahead.with_suffix(".fresh")
        fresh.write_text(str(self._ahead_ns))
        fresh.rename(self._ahead)

    @property
    def ahead_ns(self) -> int:
        return self._ahead_ns

    async def register(self, guest: str, **spec: object) -> Task:
        artifact = await self.client.put_artifact(guest_bytes(guest))
        named = {"name": guest, "artifact": artifact.digest, **spec}
        return await self.client.register(TaskSpec(**named))  # type: ignore[arg-type]

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def highest_kib(self) -> int:
        """The most that was resident since this was asked last: tables of the store fill and are
        emptied, so one look is any point between that and the least."""
        process = Path(f"/proc/{self.process.pid}")
        highest = int((process / "status").read_text().partition("VmHWM:")[2].split()[0])
        (process / "clear_refs").write_text("5")  # the kernel's word for: count anew
        return highest


@asynccontextmanager
async def real_daemon(folder: Path) -> AsyncIterator[RealDaemon]:
    made = RealDaemon(folder)
    try:
        yield made
    finally:
        await made.stop()


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    """Looks again and again: what a process does by itself tells nobody."""
    async with asyncio.timeout(READY_S):
        while not await fact():
            await asyncio.sleep(LOOK_S)

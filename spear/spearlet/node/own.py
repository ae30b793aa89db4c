"""A whole node in the caller's process: tasks, executions that survive, schedules; no doors.

The rule: it is the node that a daemon serves, on the caller's event loop, with the methods that
spear.Client has. With a data directory it keeps what a daemon there would keep, and only one of
them may have it; without one it keeps everything in memory, and its files go with it.
"""

from __future__ import annotations

import asyncio
import tempfile

from spear import config as configuration
from spear.clock import Clock
from spear.spearlet.datadir import open_data_dir
from spear.spearlet.node.serving import open_served
from spear.spearlet.systemlog import open_system_log
from spear.telemetry.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear.config import Config
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.spearlet.datadir import DataDir
    from spear.spearlet.node.services import NodeServices
    from spear.spearlet.node.serving import ServedNode
    from spear.telemetry.jsonlog import Log


class OwnNode:
    """An async context manager that gives the node. Raises KvLocked where another process has the
    data directory; `grace_s` is for what runs at the end."""

    def __init__(
        self, data_dir: str | None, settings: Mapping[str, object] | None, grace_s: float,
        router_filter: Hook | None = None,
    ) -> None:  # fmt: skip
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._log: Log | None = None
        self._grace_s, self._filter = grace_s, router_filter
        self._flags: dict[str, tuple[str, object]] = {
            key: (key, value) for key, value in (settings or {}).items()
        }
        if data_dir is not None:
            self._flags["storage.data_dir"] = ("data_dir", data_dir)
        self._given = data_dir is not None
        self._lock: DataDir | None = None
        self._served: ServedNode | None = None

    async def __aenter__(self) -> NodeServices:
        clock = Clock()
        try:
            config = self._config(clock)
            self._lock = open_data_dir(config.data_dir)
            redactor = Redactor()
            self._log = open_system_log(config, clock, redactor)
            self._log.leave_by(asyncio.get_running_loop().call_soon_threadsafe)
            self._served = await open_served(
                config,
                clock=clock,
                log=self._log,
                redactor=redactor,
                environ=configuration.environment(),
                router_filter=self._filter,
            )
        except BaseException:
            self._let_go()
            raise
        return self._served.services

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._served is not None:
                await self._served.close(self._grace_s)
        finally:
            self._let_go()

    def _config(self, clock: Clock) -> Config:
        if not self._given:
            self._temporary = tempfile.TemporaryDirectory(prefix="spear-")
            self._flags["storage.data_dir"] = ("data_dir", self._temporary.name)
            self._flags["storage.backend"] = ("data_dir", "memory")
        self._flags.setdefault("logging.level", ("logging.level", "warn"))
        return configuration.load(flags=self._flags, defaults={"node_name": clock.host_name()})

    def _let_go(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

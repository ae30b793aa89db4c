"""A node on its data directory: the stores it stands on, opened for a daemon.

The rule: the directory is the caller's, locked and made. What was opened is closed in the other
order, also where a later part could not be opened.
"""

from __future__ import annotations

import os

from spear.kv.memory import open_memory
from spear.spearlet.logs.store import LogLimits, LogStore
from spear.spearlet.node.opening import OpenNode, open_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear.clock import Clock
    from spear.config import Config
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.kv.interface import LocalKv
    from spear.protocol.serving import Turn
    from spear.spearlet.node.services import NodeServices
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor


class ServedNode:
    """What a daemon serves."""

    def __init__(self, node: OpenNode, kv: LocalKv, logs: LogStore) -> None:
        self._node, self._kv, self._logs = node, kv, logs

    @property
    def services(self) -> NodeServices:
        return self._node.services

    @property
    def turn(self) -> Turn:
        return self._node.services.turn

    async def close(self, grace_s: float = 0.0) -> None:
        try:
            await self._node.close(grace_s)
        finally:
            self._logs.close()
            await self._kv.close()


async def open_served(
    config: Config, *, clock: Clock, log: Log, redactor: Redactor, environ: Mapping[str, str],
    router_filter: Hook | None = None,
) -> ServedNode:  # fmt: skip
    """The node of this configuration. `environ` is what its tasks may refer to, and `redactor`
    learns what they do. Raises KvError, InvalidArgument."""
    kv = _open_kv(config)
    logs = LogStore(
        os.path.join(config.data_dir, "logs"),
        config.node_name,
        LogLimits(config.task_log_bytes_max, config.logs_bytes_max, config.logs_ns_max),
        clock,
        redactor,
        log,
    )
    try:
        node = await open_node(
            config,
            kv=kv,
            data_dir=config.data_dir,
            clock=clock,
            log=log,
            logs=logs,
            redactor=redactor,
            environ=environ,
            router_filter=router_filter,
        )
    except BaseException:
        logs.close()
        await kv.close()
        raise
    return ServedNode(node, kv, logs)


def _open_kv(config: Config) -> LocalKv:
    if config.storage_backend == "memory":
        return open_memory()
    from spear.kv.rocks import open_rocks
    from spear.kv.salvage import check_salvaged

    path = os.path.join(config.data_dir, "metadata")
    check_salvaged(path)
    return open_rocks(path, cache_bytes=config.kv_cache_mb << 20)

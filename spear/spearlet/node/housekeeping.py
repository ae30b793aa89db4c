"""What the node does by itself now and then: forget old executions, close idle instances.

The rule: small steps, seconds apart; what fails is logged and tried again at the next turn.
"""

from __future__ import annotations

import asyncio

from spear.errors import SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.node.history import History
    from spear.spearlet.node.parts import Parts

_EVERY_S = 5.0


class Housekeeping:
    """A task of the node's loop, from `start` to `close`."""

    def __init__(self, parts: Parts, history: History) -> None:
        self._parts, self._history = parts, history
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def turn(self) -> None:
        """One round."""
        config = self._parts.config
        self._parts.pools.trim()
        await self._history.trim(config.history_count_max, config.history_ns_max)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.turn()
            except (SpearError, OSError) as error:
                self._parts.log.warn("housekeeping failed", reason=str(error))

"""What the node does by itself: runs schedules, delivers webhooks, forgets what is too old.

The rule: small steps, seconds apart; what fails is logged and tried again at the next turn.
"""

from __future__ import annotations

import asyncio

from spear.errors import SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spear.spearlet.node.history import History
    from spear.spearlet.node.objects import NodeObjects
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.tasks import Tasks
    from spear.spearlet.schedules.scheduler import Scheduler

_EVERY_S = 5.0


class Housekeeping:
    """Tasks of the node's loop, from `start` to `close`."""

    def __init__(
        self, parts: Parts, tasks: Tasks, history: History, scheduler: Scheduler,
        objects: NodeObjects,
    ) -> None:  # fmt: skip
        self._parts, self._registered, self._objects = parts, tasks, objects
        self._history, self._scheduler = history, scheduler
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_up("housekeeping", self._run)),
            loop.create_task(self._keep_up("history", self._bound_history)),
            loop.create_task(self._keep_up("schedules", self._scheduler.run)),
            loop.create_task(self._keep_up("webhooks", self._parts.webhooks.run)),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_up(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs again after an error that nobody foresaw, which is said."""
        while True:
            try:
                await run()
            except Exception as error:
                self._parts.log.failure(f"{name} stopped", error)
            await asyncio.sleep(_EVERY_S)

    async def turn(self) -> None:
        """One round."""
        self._parts.pools.trim()
        await self._fill_pools()
        await self._history.trim()
        await self._parts.logs.sweep()
        await self._objects.follow_guests()

    async def _fill_pools(self) -> None:
        try:
            await self._parts.pools.fill(self._registered.all(), self._parts.programs)
        except SpearError as error:
            self._parts.log.warn("warm instances not made", reason=str(error))

    async def _run(self) -> None:
        await self._fill_pools()
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._try("housekeeping", self.turn)

    async def _bound_history(self) -> None:
        """Large results fill a disk between two rounds."""
        while True:
            await self._history.far_over()
            await self._try("forgetting", self._history.trim)

    async def _try(self, name: str, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except (SpearError, OSError) as error:
            self._parts.log.warn(f"{name} failed", reason=str(error))

"""Who is there to be asked: the backends of the configuration, and those that were discovered.

The rule: a discovered backend that stays keeps its health, its slots and its connections; one that
is gone is let go once nothing is under way. One look at the server at a time, which its askers
share; a configured name is never taken by a discovered one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from spear.errors import ModelError
from spear.hostcalls.llm.choice.discovery import NEED_NS, REFRESH_NS, Fetch, discover
from spear.hostcalls.llm.choice.members import OLLAMA_SERVER, Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock
    from spear.config_llm import BackendSettings, OllamaSettings
    from spear.telemetry.jsonlog import Log


class Roster:
    def __init__(
        self, configured: list[Member], ollama: OllamaSettings, fetch: Fetch | None,
        adopt: Callable[[BackendSettings, str], Member], clock: Clock, log: Log,
    ) -> None:  # fmt: skip
        """`adopt` makes a member of what was found; without `fetch` nothing is looked for."""
        self._configured = {member.spec.name: member for member in configured}
        self._found: dict[str, Member] = {}
        self._gone: list[Member] = []
        self._ollama, self._fetch, self._adopt = ollama, fetch, adopt
        self._clock, self._log = clock, log
        self._looked_ns: int | None = None
        self._looking: asyncio.Task[None] | None = None
        self._failing = ""  # why the server's models are not known
        self.changes = 0  # how often others were found

    def __iter__(self) -> Iterator[Member]:
        yield from self._configured.values()
        yield from self._found.values()

    def get(self, name: str) -> Member | None:
        return self._configured.get(name) or self._found.get(name)

    @property
    def trouble(self) -> str:
        """Why there may be more models than are known; empty: there are not."""
        if not self._failing:
            return ""
        return f"the Ollama server at {self._ollama.base_url} did not answer: {self._failing}"

    def due(self, *, needed: bool = False) -> bool:
        """Whether a `look` would look."""
        if self._fetch is None or not self._ollama.enabled:
            return False
        if self._looked_ns is None:
            return True
        age_ns = self._clock.monotonic_ns() - self._looked_ns
        return age_ns >= (NEED_NS if needed else REFRESH_NS)

    async def look(self, *, needed: bool = False) -> bool:
        """Has what is known be as new as it should be, and says whether it was looked for. The
        first time, and where it is `needed`, the caller waits; else it goes on meanwhile."""
        if self._fetch is None or not self.due(needed=needed):
            return False
        first = self._looked_ns is None
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(self._fetch))
        if first or needed:
            await asyncio.shield(self._looking)
        return first or needed

    async def _look(self, fetch: Fetch) -> None:
        try:
            self._take(await self._asked(fetch))
            await self._let_go()
        finally:
            self._looked_ns = self._clock.monotonic_ns()
            self._looking = None

    async def _asked(self, fetch: Fetch) -> list[BackendSettings]:
        try:
            found = await discover(self._ollama, fetch)
        except ModelError as error:
            failed_before, self._failing = self._failing, str(error)
            if not failed_before:
                self._log.info("no models were discovered", reason=error)
            return []
        self._failing = ""
        return found

    def _take(self, found: list[BackendSettings]) -> None:
        fresh = {
            settings.spec.name: settings
            for settings in found
            if settings.spec.name not in self._configured
        }
        self.changes += 1
        self._gone += [member for name, member in self._found.items() if name not in fresh]
        self._found = {
            name: self._found.get(name) or self._adopt(settings, OLLAMA_SERVER)
            for name, settings in fresh.items()
        }

    async def _let_go(self) -> None:
        idle = [member for member in self._gone if not member.gate.busy]
        self._gone = [member for member in self._gone if member.gate.busy]
        for member in idle:
            await member.close()

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for member in (*self, *self._gone):
            await member.close()

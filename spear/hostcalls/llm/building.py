"""Models as a node has them: built from its configuration and its environment.

The rule: the composition of this package; what asks the network is imported with the first request
that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping

from spear.clock import Ids
from spear.hostcalls.llm.models import Models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock
    from spear.config_llm import LlmSettings
    from spear.hostcalls.llm.backends.interface import Backend
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.records.models import BackendSpec
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor


def models_of(
    settings: LlmSettings, *, environ: Mapping[str, str], clock: Clock, log: Log,
    redactor: Redactor, filter: Hook | None = None,
) -> Models:  # fmt: skip
    """`environ` has the credentials; the redactor learns them here. `filter` is a function that has
    a say in routing, instead of the configured service."""

    def make(spec: BackendSpec, key: str) -> Backend:
        from spear.hostcalls.llm.backends.make import make_backend

        return make_backend(spec, clock, key)

    async def fetch(base_url: str, path: str, timeout_ms: int, bytes_max: int) -> bytes:
        from spear.hostcalls.llm.http.get import get

        return await get(base_url, path, clock, timeout_ms, bytes_max)

    service = None
    if settings.filter.address and filter is None:
        from spear.hostcalls.llm.choice.filter.service import FilterService

        service = FilterService(settings.filter.address, Ids(clock))
    return Models(
        settings, environ=environ, clock=clock, log=log, redactor=redactor, make=make,
        fetch=fetch, filter=filter, service=service,
    )  # fmt: skip

"""The node's Models: made when they are first asked for, one for all who ask.

The rule: where nothing is said of models, nothing is imported before somebody asks. Where there is,
they are built with the node, so that the redactor knows their credentials from the start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear.clock import Clock
    from spear.config import Config
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.hostcalls.llm.models import Models
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor


class NodeModels:
    """`get` and `close` on the node's loop. `filter` is a Python function that has a say in
    routing."""

    def __init__(
        self, config: Config, *, environ: Mapping[str, str], clock: Clock, log: Log,
        redactor: Redactor, filter: Hook | None = None,
    ) -> None:  # fmt: skip
        self._config, self._environ, self._clock = config, environ, clock
        self._log, self._redactor, self._filter = log, redactor, filter
        self._models: Models | None = None
        if config.has_llm:
            self.get()

    def get(self) -> Models:
        if self._models is None:
            from spear.hostcalls.llm.building import models_of

            self._models = models_of(
                self._config.llm, environ=self._environ, clock=self._clock, log=self._log,
                redactor=self._redactor, filter=self._filter,
            )  # fmt: skip
        return self._models

    async def close(self) -> None:
        models, self._models = self._models, None
        if models is not None:
            await models.close()

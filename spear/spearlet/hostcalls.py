"""What answers the calls that Python answers, as a node composes it.

The rule: nothing of it is built or imported before a program that makes such calls is started: a
node whose agents ask for nothing has no models and pays for none. On the node's loop, or where
there is none on the executor's own.
"""

from __future__ import annotations

from spear.runtime.waiting import running_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Mapping

    from spear._core.door import Answer, Call, Handler
    from spear.clock import Clock
    from spear.config import Config
    from spear.hostcalls.llm.models import Models
    from spear.hostcalls.tasks import Children
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor

_BEGINNINGS = (40, 45)  # cchat_create, embed_send: nothing asks a model before one of them
_CLOSE_S = 5.0


class HostCalls:
    """Of one node. `children` runs the tasks that agents call; without, they answer -ENOSYS. Without
    a `log` nothing is said of how models fare but to who asks them."""

    def __init__(
        self, config: Config, clock: Clock, *, environ: Mapping[str, str],
        log: Log | None = None, redactor: Redactor | None = None,
    ) -> None:  # fmt: skip
        self._config, self._clock, self._environ = config, clock, environ
        self._log, self._redactor = log, redactor
        self.children: Children | None = None
        self._models: Models | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # where models are used

    def models(self) -> Models:
        """The node's models; built by who asks first."""
        if self._models is None:
            from spear.hostcalls.llm.building import models_of
            from spear.telemetry.jsonlog import open_log
            from spear.telemetry.redact import Redactor

            redactor = self._redactor or Redactor()
            log = self._log or open_log(_Nowhere(), self._clock, redactor)
            self._models = models_of(
                self._config.llm,
                environ=self._environ,
                clock=self._clock,
                log=log,
                redactor=redactor,
            )
        return self._models

    def handlers(self) -> dict[int, Handler]:
        """By operation code."""
        from spear.hostcalls.llm.chat import chat_handlers

        found = chat_handlers(self.models(), self._clock)
        for op in _BEGINNINGS:
            found[op] = self._noting(found[op])
        if self.children is not None:
            from spear.hostcalls.tasks import task_handlers

            found |= task_handlers(self.children)
        return found

    def _noting(self, handler: Handler) -> Handler:
        """The handler, which notes on which loop it runs: that is where models are closed."""

        def noted(call: Call) -> Answer | Awaitable[Answer]:
            if self._loop is None:
                self._loop = running_loop()
            return handler(call)

        return noted

    async def close(self) -> None:
        """Ends what models hold: connections, probes. On their loop, or where they were unused."""
        models, self._models = self._models, None
        if models is not None:
            await models.close()

    def finish(self) -> None:
        """As `close`, from a thread that is not the loop's."""
        loop = self._loop
        if loop is None or loop.is_closed() or self._models is None:
            return
        import asyncio

        asyncio.run_coroutine_threadsafe(self.close(), loop).result(_CLOSE_S)


class _Nowhere:
    """Where lines go that nobody asked for."""

    def write(self, lines: bytes) -> None: ...
    def close(self) -> None: ...

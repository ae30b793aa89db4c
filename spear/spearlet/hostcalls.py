"""What answers the calls that Python answers, as a node composes it.

The rule: nothing of it is built or imported before a program that makes such calls is started: a
node whose agents ask for nothing pays for nothing. On the node's loop or, where there is none, on
the executor's own.
"""

from __future__ import annotations

from spear.runtime.waiting import running_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from spear._core.door import Answer, Call, Handler
    from spear.clock import Clock
    from spear.config import Config
    from spear.hostcalls.durable import Keeper
    from spear.hostcalls.llm.choice.filter.decider import Hook
    from spear.hostcalls.llm.models import Models
    from spear.hostcalls.tasks import Children
    from spear.runtime.interface import LogLine
    from spear.spearlet.models import NodeModels
    from spear.telemetry.redact import Redactor

_BEGINNINGS = (43, 44, 45)  # cchat_send, cchat_stream, embed_send: nothing else asks a model
_CLOSE_S = 5.0


class HostCalls:
    """Of one node. `models` gives what agents may ask; `children` runs the tasks that they call,
    where there are tasks, and `keeper` keeps what they put durably: without, such calls answer
    -ENOSYS."""

    def __init__(self, models: Callable[[], Models], clock: Clock) -> None:
        self._models, self._clock = models, clock
        self.children: Children | None = None
        self.keeper: Keeper | None = None
        self.loop: asyncio.AbstractEventLoop | None = None  # where models are asked

    def handlers(self) -> dict[int, Handler]:
        """By operation code."""
        from spear.hostcalls.llm.chat.handlers import chat_handlers

        found = chat_handlers(self._models(), self._clock)
        for op in _BEGINNINGS:
            found[op] = self._noting(found[op])
        if self.children is not None:
            from spear.hostcalls.tasks import task_handlers

            found |= task_handlers(self.children)
        return found

    def object_handlers(self) -> dict[int, Handler]:
        """The same of durable puts, for programs that ask for nothing else."""
        if self.keeper is None:
            return {}
        from spear.hostcalls.durable import durable_handlers

        return durable_handlers(self.keeper)

    def _noting(self, handler: Handler) -> Handler:
        """The handler, which notes on which loop it runs: that is where models are closed."""

        def noted(call: Call) -> Answer | Awaitable[Answer]:
            if self.loop is None:
                self.loop = running_loop()
            return handler(call)

        return noted


class LibraryCalls:
    """The same for a node that is a library: its models are its own, and nothing is said of how
    they fare but to who asks them."""

    def __init__(
        self, config: Config, clock: Clock, environ: Mapping[str, str], filter: Hook | None = None
    ) -> None:
        self._config, self._clock, self._environ = config, clock, environ
        self._filter = filter
        self._models: NodeModels | None = None
        self._redactor: Redactor | None = None  # no guest can know a key before there are models
        self._calls = HostCalls(self._get, clock)

    def handlers(self) -> dict[int, Handler]:
        return self._calls.handlers()

    def shown(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        """A guest's lines without the keys of models, until `close`."""
        if self._redactor is None:
            return lines
        from spear.spearlet.shownlines import without_secrets

        return without_secrets(lines, self._redactor)

    def _get(self) -> Models:
        if self._models is None:
            from spear.spearlet.models import NodeModels
            from spear.telemetry.jsonlog import open_log
            from spear.telemetry.redact import Redactor

            self._redactor = redactor = Redactor()
            log = open_log(_Nowhere(), self._clock, redactor, level="error")
            self._models = NodeModels(
                self._config, environ=self._environ, clock=self._clock, log=log,
                redactor=redactor, filter=self._filter,
            )  # fmt: skip
        return self._models.get()

    def close(self) -> None:
        """Lets connections go, on the loop that has them; not to be called on that loop."""
        loop, models = self._calls.loop, self._models
        if models is None or loop is None or loop.is_closed():
            return
        import asyncio

        asyncio.run_coroutine_threadsafe(models.close(), loop).result(_CLOSE_S)


class _Nowhere:
    """Where lines go that nobody asked for."""

    def write(self, lines: bytes) -> None: ...
    def close(self) -> None: ...

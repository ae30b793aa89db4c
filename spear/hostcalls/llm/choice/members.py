"""The backends of a node as they stand: how each one does, who is before it, what keeps it away.

The rule: a backend is built when it is first asked, so that a node which asks none imports no HTTP
client; its key is looked up here, once, and goes nowhere but into it and the redactor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spear.config_llm import BackendSettings
from spear.hostcalls.llm.choice.health import Health
from spear.hostcalls.llm.choice.limits import Gate
from spear.hostcalls.llm.choice.routing import Candidate
from spear.records.models import BackendSpec, ModelInfo
from spear.telemetry.redact import VALUE_CHARS_MIN, Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock
    from spear.hostcalls.llm.backends.interface import Backend

Make = Callable[[BackendSpec, str], "Backend"]  # of its key, "" for none

CONFIG, DEFAULT, OLLAMA_SERVER = "config", "default", "ollama"
_KEY_CHARS_MAX = 8192


class Keys:
    """Credentials by environment variable; what was found is known to the redactor until close."""

    def __init__(self, environ: Mapping[str, str], redactor: Redactor) -> None:
        self._environ, self._redactor = environ, redactor
        self._learned: dict[str, str] = {}

    def find(self, variable: str) -> tuple[str, str]:
        """The key, and why there is none."""
        value = self._environ.get(variable, "").strip()
        if not value:
            return "", f"the environment variable {variable} is not set"
        if not VALUE_CHARS_MIN <= len(value) <= _KEY_CHARS_MAX or not (
            value.isascii() and value.isprintable() and " " not in value
        ):
            return "", f"what the environment variable {variable} holds cannot be a key"
        if variable not in self._learned:
            self._learned[variable] = value
            self._redactor.learn(variable, value)
        return value, ""

    def close(self) -> None:
        for variable, value in self._learned.items():
            self._redactor.forget(variable, value)
        self._learned.clear()


class Member:
    """One backend."""

    def __init__(
        self, settings: BackendSettings, source: str, keys: Keys, make: Make, clock: Clock
    ) -> None:
        self.settings, self.source = settings, source
        self.spec = settings.spec
        self._make, self._backend = make, None
        self._key, self.missing = "", settings.unserved
        if self.spec.credential_ref and not self.missing:
            self._key, self.missing = keys.find(self.spec.credential_ref)
        self.health = Health()
        self.gate = Gate(self.spec.name, settings.concurrency, settings.requests_per_minute, clock)

    _backend: Backend | None

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            self._backend = self._make(self.spec, self._key)
        return self._backend

    def candidate(self, now_ns: int) -> Candidate:
        ready = self.health.ready(now_ns)
        return Candidate(spec=self.spec, missing=self.missing, healthy=ready)

    def info(self, now_ns: int) -> ModelInfo:
        spec, health = self.spec, self.health
        fields = {name: getattr(spec, name) for name in _SHOWN}
        return ModelInfo(
            **fields,
            available=not self.missing,
            reason=self.missing or health.reason,
            health=health.state(now_ns),
            source=self.source,
            latency_ns=health.latency_ns,
            error_rate=round(health.error_rate, 4),
            in_flight=self.gate.busy,
            waiting=self.gate.waiting,
        )

    async def close(self) -> None:
        if self._backend is not None:
            await self._backend.close()


_SHOWN = tuple(
    name for name in ModelInfo.__struct_fields__
    if name in BackendSpec.__struct_fields__
)  # fmt: skip

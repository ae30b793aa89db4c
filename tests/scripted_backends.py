"""Backends that play a script: what each request to them does, in order; the last line repeats.

The rule: they keep to the interface of real ones, and count what they see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from spear.config_llm import BackendSettings, LlmSettings
from spear.errors import ModelError
from spear.hostcalls.llm.models import Models
from spear.hostcalls.llm.request import ChatRequest, Deliver, Delta, EmbedRequest, Reply
from spear.records.models import BackendSpec
from spear.records.usage import Usage
from spear.telemetry.jsonlog import Log, open_log
from spear.telemetry.redact import Redactor

Act = Callable[[], Any]  # raises, or gives the seconds that an answer takes


def answer(seconds: float = 0.1) -> Act:
    return lambda: seconds


def fail(make: Callable[[], ModelError]) -> Act:
    def act() -> None:
        raise make()

    return act


class Scripted:
    """`asked` are the models that were asked for, `busy` how many are under way now."""

    def __init__(self, spec: BackendSpec, script: list[Act], key: str = "") -> None:
        self.spec, self.script, self.key = spec, list(script), key
        self.asked: list[str] = []
        self.requests: list[str] = []
        self.busy = self.busy_max = 0
        self.deadlines: list[int] = []
        self.closed = False
        self.pieces: list[str | Act] = ["a", "b"]
        self.usage = Usage(calls=1, prompt_tokens=10, completion_tokens=5)

    keeps_time = False

    async def chat(self, request: ChatRequest, model: str) -> Reply:
        await self._act(request, model)
        message = {"role": "assistant", "content": f"by {self.spec.name}"}
        return self._reply({"choices": [{"message": message}]}, model)

    async def stream(self, request: ChatRequest, model: str, deliver: Deliver) -> Reply:
        await self._act(request, model)
        self._enter()
        try:
            for piece in self.pieces:
                if not isinstance(piece, str):
                    await asyncio.sleep(piece())
                elif wait := deliver(Delta(content=piece)):
                    await wait
        finally:
            self.busy -= 1
        return self._reply({"choices": []}, model)

    async def embed(self, request: EmbedRequest, model: str) -> Reply:
        await self._act(request, model)
        return self._reply({"data": [{"embedding": [0.0, 1.0]}]}, model)

    async def probe(self) -> None:
        return

    async def close(self) -> None:
        self.closed = True

    def _enter(self) -> None:
        self.busy += 1
        self.busy_max = max(self.busy, self.busy_max)

    async def _act(self, request: Any, model: str) -> None:
        self.asked.append(model)
        self.requests.append(request.request_id)
        self.deadlines.append(request.deadline_ns)
        self._enter()
        try:
            act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            await asyncio.sleep(act())
        finally:
            self.busy -= 1

    def _reply(self, body: Any, model: str) -> Reply:
        name, model = self.spec.name, model or "own"
        return Reply(body=body, backend=name, model=model, usage=self.usage)


class Lines:
    """A target of the system log that keeps its lines."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, lines: bytes) -> None:
        self.data += lines

    def close(self) -> None:
        return

    @property
    def text(self) -> str:
        return self.data.decode()


def spec(name: str, **fields: Any) -> BackendSpec:
    fields = {"kind": "openai_chat_completion", "hosting": "remote", "model": "m",
              "base_url": "http://127.0.0.1:1", **fields}  # fmt: skip
    return BackendSpec(name=name, **fields)


class Stage:
    """Models over scripted backends: `stage["a"]` is the backend of that name."""

    def __init__(
        self, clock: Any, scripts: dict[str, list[Act]], *, retries: int = 2,
        settings: dict[str, dict[str, Any]] | None = None,
        specs: dict[str, dict[str, Any]] | None = None, environ: dict[str, str] | None = None,
        **given: Any,
    ) -> None:  # fmt: skip
        self.scripts, self.backends = scripts, dict[str, Scripted]()
        self.lines, self.redactor = Lines(), Redactor()
        self.log: Log = open_log(self.lines, clock, self.redactor, level="debug")
        backends = tuple(
            BackendSettings(
                spec=spec(name, **(specs or {}).get(name, {})), **(settings or {}).get(name, {})
            )
            for name in scripts
        )
        llm = given.pop("llm", LlmSettings(backends=backends, retries=retries))
        self.models = Models(
            llm, environ=environ or {}, clock=clock, log=self.log, redactor=self.redactor,
            make=self._make, **given,
        )  # fmt: skip

    def _make(self, spec: BackendSpec, key: str) -> Scripted:
        script = self.scripts.get(spec.name, [answer()])
        return self.backends.setdefault(spec.name, Scripted(spec, script, key))

    def __getitem__(self, name: str) -> Scripted:
        """Also of one that was not asked yet."""
        for member in self.models._roster:
            if member.spec.name == name:
                assert isinstance(member.backend, Scripted)
                return member.backend
        raise KeyError(name)

    @property
    def asked(self) -> list[str]:
        """How often each was asked, as `a2 b1`."""
        return [f"{name}{len(one.asked)}" for name, one in self.backends.items() if one.asked]

    @property
    def slots(self) -> int:
        """Slots that are taken, and places in queues."""
        return sum(m.gate.busy + m.gate.waiting for m in self.models._roster)


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": "hello"}], **fields)

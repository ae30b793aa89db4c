"""Guests that chat, with real handlers, real models and a backend over HTTP or the stub.

Rule: all on the test's loop; at the end no guest, no connection and no reservation is left.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from guest_runs import guest
from scripted_backends import Lines

from spear._core import handles
from spear._core.engine import Module
from spear._core.executor import Executor
from spear._core.run import Run
from spear.clock import Clock
from spear.config_llm import BackendSettings, LlmSettings, Price
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.building import models_of
from spear.hostcalls.llm.chat.handlers import chat_handlers
from spear.hostcalls.llm.meter import Meter
from spear.hostcalls.llm.policy import budget_of
from spear.records.models import OPENAI, STUB, BackendSpec
from spear.records.usage import Usage
from spear.telemetry.jsonlog import open_log
from spear.telemetry.redact import Redactor

S = 10**9
FEATURES = ("supports_tools", "supports_json_schema")
OPS = ("chat_completions", "embeddings")


def openai(url: str, name: str = "fake", **fields: Any) -> BackendSettings:
    return BackendSettings(
        spec=BackendSpec(
            name=name, kind=OPENAI, base_url=url, features=FEATURES, ops=OPS,
            **{"model": "m", "hosting": "local", **fields},
        )
    )  # fmt: skip


def stub(name: str = "stub", **fields: Any) -> BackendSettings:
    return BackendSettings(
        spec=BackendSpec(
            name=name, kind=STUB, hosting="local", features=FEATURES, ops=OPS,
            transports=("in_process",), **fields,
        )
    )  # fmt: skip


class ChatNode:
    """`agents` are those of all runs, in their order."""

    def __init__(self, executor: Executor, clock: Clock) -> None:
        self.executor, self.clock = executor, clock
        self.agents: list[Agent] = []

    def start(
        self,
        module: str | Module,
        *args: str,
        timeout_s: float = 60.0,
        config: Mapping[str, str] | None = None,
        entry: str = "_start",
    ) -> Run:
        """Of a guest of that name, or of a module of the test's own."""
        config, timeout_ns = config or {}, int(timeout_s * S)
        agent = Agent(
            execution_id=f"e{len(self.agents)}", task="t", config=config,
            deadline_ns=self.clock.monotonic_ns() + timeout_ns, meter=Meter(budget_of(config)),
        )  # fmt: skip
        self.agents.append(agent)
        return self.executor.start(
            guest(module) if isinstance(module, str) else module,
            args=(module if isinstance(module, str) else "guest", *args),
            entry=entry,
            timeout_ns=timeout_ns,
            context=agent,
            output_bytes_max=64 << 20,
        )

    async def talk(self, *args: str, **more: Any) -> list[Any]:
        """What the guest `talker` printed, a line each, JSON where it is that."""
        run = self.start("talker", *args, **more)
        outcome = await run
        assert (outcome.cause, outcome.exit_code) == ("exit", 0), outcome
        return [_read(line) for line in run.output.decode().splitlines()]

    def stopwatch(self) -> Callable[[], float]:
        """Says how many seconds have passed, by the node's clock."""
        began_ns = self.clock.monotonic_ns()
        return lambda: (self.clock.monotonic_ns() - began_ns) / S

    async def settled(self) -> None:
        """Nothing is reserved any more: what ended guests had asked for has ended too."""
        while any(agent.meter.reserved != Usage() for agent in self.agents):
            await asyncio.sleep(0.001)

    @property
    def usage(self) -> Usage:
        """Of all runs; and nothing is reserved any more."""
        total = Usage()
        for agent in self.agents:
            assert agent.meter.reserved == Usage()
            total += agent.meter.total
        return total


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


@asynccontextmanager
async def chat_node(
    *backends: BackendSettings, prices: Sequence[Price] = (), retries: int = 0, guests: int = 1000
) -> AsyncIterator[ChatNode]:
    gc.collect()  # what others left in cycles does not go meanwhile
    clock, redactor, before = Clock(), Redactor(), handles.live_count()
    models = models_of(
        LlmSettings(backends=backends, prices=tuple(prices), retries=retries), environ={},
        clock=clock, log=open_log(Lines(), clock, redactor), redactor=redactor,
    )  # fmt: skip
    failed: list[BaseException] = []
    executor = Executor(workers=2, guests_max=guests)
    try:
        executor.serve(
            chat_handlers(models, clock), failed=lambda call, error: failed.append(error)
        )
        node = ChatNode(executor, clock)
        yield node
        await node.settled()
    finally:
        await models.close()
        executor.close()
    assert failed == []
    for _ in range(100):  # turns in which tasks that have ended are let go
        if handles.live_count() != before:
            await asyncio.sleep(0)
    assert handles.live_count() == before, (handles.live_count(), before)

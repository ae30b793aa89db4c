"""The handlers of task calls, over stand-ins for calls and for who runs them; with real guests:
integration."""

from __future__ import annotations

import asyncio
import json
from errno import EIO
from typing import Any

import pytest
from chat_stand_ins import FakeCall, agent

from spear._core.handles import Handle
from spear.hostcalls import tasks
from spear.hostcalls.tasks import ASYNC, INVOKE, task_handlers
from spear.records.execution import COMPLETED, Execution

LARGE = b"x" * (tasks._LARGE_BYTES + 1)


class Child:
    def __init__(self, number: int) -> None:
        self.id, self.task, self.accepted = f"e{number}", "work", None
        self.ended: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()

    def cancel(self, reason: str) -> None: ...

    async def end(self, output: bytes) -> None:
        execution = Execution(id=self.id, task_name="work", status=COMPLETED, output=output)
        execution.output_bytes = len(output)
        self.ended.set_result(execution)
        await asyncio.sleep(0)


class Told(Handle):
    """Remembers its result."""

    result: tuple[int, bytes, Any] | None = None

    def finish(self, status: int, body: bytes, about: bytes = b"{}") -> bool:
        self.result = status, body, json.loads(about or b"null")
        return super().finish(status, body, about)


class Agents:
    """One agent and what it called."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.who, self.handlers = agent(), task_handlers(self)

    def invoke(self, *asked: Any, **how: Any) -> Child:
        self.children.append(Child(len(self.children)))
        return self.children[-1]

    def call(self) -> Any:
        """The descriptor's handle, at once."""
        return self.handlers[INVOKE](FakeCall(self.who, b'{"task":"work"}', b"", ASYNC))


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> Agents:
    monkeypatch.setattr(tasks, "Handle", Told)
    monkeypatch.setattr(tasks, "HELD_BYTES_MAX", 2 * len(LARGE))
    return Agents()


async def test_large_results_are_held_up_to_a_bound_until_they_are_closed(agents: Agents) -> None:
    handles = [agents.call() for _ in range(3)]
    for child in agents.children:
        await child.end(LARGE)
    assert [handle.result[0] for handle in handles] == [0, 0, -EIO]
    assert handles[2].result[2]["error"]["code"] == "RESULT_LIMIT"
    calls = agents.handlers[INVOKE].__self__  # type: ignore[attr-defined]
    calls._closed(handles[0])
    fourth = agents.call()
    await agents.children[3].end(LARGE)
    assert fourth.result[:2] == (0, LARGE)


async def test_a_result_that_comes_after_its_call_was_closed_takes_no_room(agents: Agents) -> None:
    calls = agents.handlers[INVOKE].__self__  # type: ignore[attr-defined]
    for number in range(3):
        calls._closed(agents.call())
        await agents.children[number].end(LARGE)
    last = agents.call()
    await agents.children[3].end(LARGE)
    assert last.result[:2] == (0, LARGE)

"""Stand-ins for what chat needs around it: models that answer as told, agents, answers.

Rule: nothing here waits for time; a model that hangs waits for an event, and says that it was
cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spear._core.drafts import Room
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.meter import Meter
from spear.hostcalls.llm.policy import budget_of
from spear.hostcalls.llm.request import ChatRequest, Deliver, Delta, EmbedRequest, Reply
from spear.records.usage import Usage

USED = Usage(calls=1, prompt_tokens=3, completion_tokens=2, model_ns=5, cost_nano_usd=7)
Script = Reply | BaseException | Callable[[Any], Any]


def agent(
    config: Mapping[str, str] | None = None, *, deadline_ns: int = 0, parent: Meter | None = None
) -> Agent:
    config = config or {}
    return Agent(
        execution_id="e1", task="t", deadline_ns=deadline_ns, config=config,
        meter=Meter(budget_of(config), parent),
    )  # fmt: skip


def reply(
    content: str | None = "hi", *, calls: Sequence[Any] = (), usage: Usage = USED, **message: Any
) -> Reply:
    """Of a chat; `calls` are tool calls in OpenAI's form."""
    said: dict[str, Any] = {"role": "assistant", "content": content, **message}
    if calls:
        said["tool_calls"] = list(calls)
    counts = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls" if calls else "stop"}
    body = {"id": "c1", "object": "chat.completion", "choices": [choice], "usage": counts}
    return Reply(body=body, backend="fake", model="m", usage=usage)


def tool_call(name: str, arguments: str = "{}", id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


class FakeModels:
    """Answers each request with the next of `script`: a Reply, an error, or what a function of the
    request gives; the last one stays. `pieces` come before a streamed answer."""

    def __init__(self, *script: Script, pieces: Sequence[Delta] = (), price: int = 0) -> None:
        self.script, self.pieces, self.price_nano_usd = list(script), pieces, price
        self.requests: list[Any] = []
        self.asked = asyncio.Event()
        self.cancelled = 0

    async def chat(self, request: ChatRequest) -> Reply:
        self.requests.append(request)
        self.asked.set()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, BaseException):
            raise step
        found = step if isinstance(step, Reply) else step(request)
        if asyncio.iscoroutine(found):
            found = await found
        assert isinstance(found, Reply)
        return found

    async def stream(self, request: ChatRequest, deliver: Deliver) -> Reply:
        try:
            for piece in self.pieces:
                if wait := deliver(piece):
                    await wait
            return await self.chat(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def embed(self, request: EmbedRequest) -> Reply:
        return await self.chat(request)  # type: ignore[arg-type]

    def price(self, request: Any, prompt_tokens: int, completion_tokens: int) -> int:
        return self.price_nano_usd

    def unknown(self, allowed: Sequence[str]) -> list[str]:
        return [f"no {name}" for name in allowed if name == "gone"]

    async def hang(self) -> Reply:
        """As an answer of the script: never comes."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("unreachable")


class FakeHandle:
    """As spear._core.handles.Handle, and shows what it was finished with."""

    def __init__(
        self, kind: int, value: Any = None, *, channel: Any = None,
        closed: Callable[[Any], object] | None = None,
    ) -> None:  # fmt: skip
        self.kind, self.value, self.channel, self.closed = kind, value, channel, closed
        self.result: tuple[int, bytes, bytes] | None = None
        self.room, self.drafted = Room(), list[tuple[int, bytes, bytes]]()
        self.drafts_left = 0

    def drafts(self, left: int) -> list[tuple[int, bytes, bytes, int]]:
        drafted, self.drafted, self.drafts_left = self.drafted, [], left
        return [(*draft, 100) for draft in drafted]

    def when_closed(self, callback: Callable[[Any], object]) -> None:
        self.closed = callback

    def finish(self, status: int, body: bytes, about: bytes = b"{}") -> bool:
        first = self.result is None
        self.result = self.result or (status, body, about)
        return first

    @property
    def finished(self) -> bool:
        return self.result is not None

    def close(self) -> None:
        """As the guest does it."""
        if self.channel is not None:
            self.channel.close()
        if self.closed is not None:
            self.closed(self)


class FakeCall:
    """A guest's call; its tools are the functions `tools` by offset: (arguments) to (status,
    output)."""

    name = "spear.cchat_call"

    def __init__(self, context: Any, *args: Any, tools: Mapping[int, Any] | None = None) -> None:
        self.context, self.args, self.tools = context, args, tools or {}
        self.lines: list[tuple[int, str]] = []
        self.called: list[Any] = []

    def log(self, level: int, message: str) -> None:
        self.lines.append((level, message))

    async def tool(
        self, function: int, args: bytes, arena: tuple[int, int], out_max: int
    ) -> tuple[int, str]:
        self.called.append((function, args, arena, out_max))
        await asyncio.sleep(0)
        found = self.tools[function](args)
        return await found if asyncio.iscoroutine(found) else found

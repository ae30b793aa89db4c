"""The handlers of chat, over stand-ins for calls and handles; with real guests: integration."""

from __future__ import annotations

import asyncio
import json
from errno import EACCES, EINVAL, EIO, ENOMEM
from typing import Any

import pytest
from chat_stand_ins import FakeCall, FakeHandle, FakeModels, agent, reply, tool_call
from manual_clock import ManualClock

from spear._core.drafts import DRAFTS_MAX, MESSAGE, SETTING, Room
from spear._core.handles import CHAT_RESPONSE, CHAT_SESSION
from spear.clock import Clock
from spear.errors import ModelUnavailable
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.chat import handlers as chats
from spear.hostcalls.llm.chat import streaming
from spear.hostcalls.llm.chat.handlers import AUTO_TOOL_CALL, METRICS, Chat, chat_handlers
from spear.hostcalls.llm.chat.session import (
    MESSAGES_MAX,
    SESSION_BYTES_MAX,
    SETTINGS_MAX,
    Session,
    SessionFull,
)
from spear.hostcalls.table import by_import
from spear.records.usage import Usage


@pytest.fixture(autouse=True)
def plain_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "Handle", FakeHandle)
    monkeypatch.setattr(streaming, "Handle", FakeHandle)


class Guest:
    """One session of one agent, and short ways to its calls."""

    def __init__(self, models: FakeModels, clock: Clock, who: Agent | None = None) -> None:
        self.chat, self.agent = Chat(models, clock), who or agent()
        self.tools: dict[int, Any] = {}
        self.handle: Any = FakeHandle(CHAT_SESSION)
        self.session: Session = chats._session(self.call(), self.handle)
        self.last = self.call()

    def call(self, *args: Any) -> Any:
        self.last = FakeCall(self.agent, *args, tools=getattr(self, "tools", {}))
        return self.last

    def write(self, text: str = "hello", role: str = "user") -> int:
        return self.chat.write_message(self.call(self.handle, role.encode(), text.encode()))

    def offer(self, name: str, offset: int, tool: Any) -> None:
        description = json.dumps({"type": "function", "function": {"name": name}}).encode()
        assert self.chat.write_function(self.call(self.handle, offset, description)) == 0
        self.tools[offset] = tool

    def set(self, key: str, value: Any) -> int:
        text = json.dumps({"key": key, "value": value}).encode()
        return self.chat.control(self.call(self.handle, 1, text))

    async def send(self, flags: int = 0) -> tuple[Any, Any]:
        """The document and the metrics."""
        response: Any = await self.chat.send(self.call(self.handle, flags))
        assert response.kind == CHAT_RESPONSE
        status, body, about = response.result
        assert status == 0
        return json.loads(body), json.loads(about)


def test_every_row_of_chat_has_a_handler(clock: ManualClock) -> None:
    names = ("cchat_create", "cchat_write_msg", "cchat_write_fn", "cchat_ctl", "cchat_send",
             "cchat_stream", "embed_send")  # fmt: skip
    assert set(chat_handlers(FakeModels(reply()), clock)) == {by_import(name).op for name in names}


async def test_a_plain_send_gives_the_answer_and_leaves_the_session_alone(
    clock: ManualClock,
) -> None:
    guest = Guest(FakeModels(reply(calls=[tool_call("f")])), clock)
    assert guest.handle.kind == CHAT_SESSION
    assert guest.write() == 0
    document, metrics = await guest.send()
    assert document["_spear"] == {"backend": "fake", "model": "m"}
    assert document["choices"][0]["message"]["tool_calls"] == [tool_call("f")]
    assert metrics == {}
    assert guest.session.messages == [{"role": "user", "content": "hello"}]


async def test_metrics_are_given_where_they_are_asked_for(clock: ManualClock) -> None:
    def slow(_: Any) -> Any:
        clock.advance(30_000_000)
        return reply()

    guest = Guest(FakeModels(slow), clock)
    guest.write()
    _, metrics = await guest.send(METRICS)
    assert metrics == {
        "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "latency_ms": 30,
        "iterations": 1,
    }  # fmt: skip


async def test_a_tool_loop_grows_the_conversation_and_sums_the_metrics(clock: ManualClock) -> None:
    call = tool_call("sum", '{"a":7,"b":5}')
    models = FakeModels(reply(None, calls=[call]), reply("12"))
    guest = Guest(models, clock)
    guest.write("7 and 5")
    guest.offer("sum", 3, lambda args: (0, str(sum(json.loads(args).values()))))
    guest.set("tool_arena_ptr", 4096)
    guest.set("tool_arena_len", 1024)
    document, metrics = await guest.send(METRICS | AUTO_TOOL_CALL)
    assert document["choices"][0]["message"]["content"] == "12"
    assert (metrics["iterations"], metrics["total_tokens"]) == (2, 10)
    assert guest.last.called == [(3, b'{"a":7,"b":5}', (4096, 1024), 65536)]
    assert guest.session.messages == [
        {"role": "user", "content": "7 and 5"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "12"},
    ]
    assert models.requests[1].messages == guest.session.messages[:3]


@pytest.mark.parametrize(
    ("name", "status", "code", "message"),
    [
        ("sum", -5, "tool_exec_failed", "tool rc: -5"),
        ("nobody", 0, "unknown_tool", "unknown tool: nobody"),
        ("mcp.fs.read", 0, "mcp_tool_failed", "mcp.fs.read: MCP is not enabled for this session"),
    ],
)
async def test_a_tool_that_fails_is_told_to_the_model_which_goes_on(
    name: str, status: int, code: str, message: str, clock: ManualClock
) -> None:
    models = FakeModels(reply(None, calls=[tool_call(name)]), reply("then not"))
    guest = Guest(models, clock)
    guest.write()
    guest.offer("sum", 3, lambda args: (status, ""))
    document, metrics = await guest.send(METRICS | AUTO_TOOL_CALL)
    assert document["choices"][0]["message"]["content"] == "then not"
    assert metrics["iterations"] == 2
    assert models.requests[1].messages[2:] == [{
        "role": "tool",
        "content": f'{{"error":{{"code":"{code}","message":"{message}"}}}}',
        "tool_call_id": "call_1",
    }]  # fmt: skip


async def test_each_call_of_one_answer_has_its_result(clock: ManualClock) -> None:
    names = ("nobody", "sum", "mcp__x", "sum")
    calls = [{**tool_call(name), "id": f"c{at}"} for at, name in enumerate(names)]
    guest = Guest(FakeModels(reply(None, calls=calls), reply("done")), clock)
    guest.write()
    given = iter([(-7, ""), (0, "12")])
    guest.offer("sum", 3, lambda args: next(given))
    document, _ = await guest.send(AUTO_TOOL_CALL)
    assert "error" not in document
    results = [m for m in guest.session.messages if m["role"] == "tool"]
    assert [result["tool_call_id"] for result in results] == ["c0", "c1", "c2", "c3"]
    codes = [json.loads(each["content"])["error"]["code"] for each in results[:3]]
    assert codes == ["unknown_tool", "tool_exec_failed", "mcp_tool_failed"]
    assert results[3]["content"] == "12"


@pytest.mark.parametrize("name", ["nobody", "sum", "mcp.x"])
async def test_tools_that_only_fail_end_at_the_limits(name: str, clock: ManualClock) -> None:
    models = FakeModels(reply(None, calls=[tool_call(name)] * 3))
    guest = Guest(models, clock)
    guest.write()
    guest.offer("sum", 3, lambda args: (-7, ""))
    document, metrics = await guest.send(METRICS | AUTO_TOOL_CALL)
    assert document["error"] == {"code": "tool_call_limit", "message": "exceeded max_iterations"}
    assert metrics == {}
    assert len(models.requests) == 8
    guest.set("max_total_tool_calls", 4)
    document, _ = await guest.send(AUTO_TOOL_CALL)
    assert document["error"]["message"] == "exceeded max_total_tool_calls"
    assert len(models.requests) == 10


async def test_a_failure_that_finds_no_room_is_an_error(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Guest(FakeModels(reply(None, calls=[tool_call("nobody")])), clock)
    guest.write()
    monkeypatch.setattr("spear.hostcalls.llm.chat.session.SESSION_BYTES_MAX", 300)
    document, _ = await guest.send(AUTO_TOOL_CALL)
    assert document["error"]["code"] == "session_full"


async def test_what_fails_on_the_models_side_is_a_response_and_a_line_in_the_log(
    clock: ManualClock,
) -> None:
    guest = Guest(FakeModels(ModelUnavailable("upstream status: 503")), clock)
    guest.write()
    document, _ = await guest.send(METRICS)
    assert document == {"error": {"message": "upstream status: 503"}}
    assert guest.last.lines == [(3, "cchat_send: upstream status: 503")]


async def test_an_empty_session_gets_an_error_document(clock: ManualClock) -> None:
    document, _ = await Guest(FakeModels(reply()), clock).send()
    assert "no message" in document["error"]["message"]


async def test_a_send_may_run_inside_a_tool_on_the_same_session(clock: ManualClock) -> None:
    models = FakeModels(reply(calls=[tool_call("ask")]), reply("inner"), reply("outer"))
    guest = Guest(models, clock)
    guest.write()

    async def ask(_: bytes) -> tuple[int, str]:
        document, _metrics = await guest.send(0)
        return 0, document["choices"][0]["message"]["content"]

    guest.offer("ask", 1, ask)
    document, _ = await guest.send(AUTO_TOOL_CALL)
    assert document["choices"][0]["message"]["content"] == "outer"
    assert guest.session.messages[-2]["content"] == "inner"


async def test_limits_are_those_of_the_moment_a_send_began(clock: ManualClock) -> None:
    guest = Guest(FakeModels(reply(calls=[tool_call("more")])), clock)
    guest.write()
    guest.set("max_iterations", 2)

    def more(_: bytes) -> tuple[int, str]:
        guest.set("max_iterations", 100)
        return 0, "x"

    guest.offer("more", 1, more)
    document, _ = await guest.send(AUTO_TOOL_CALL)
    assert document["error"]["message"] == "exceeded max_iterations"


async def test_a_guest_that_ends_in_a_send_leaves_nothing(clock: ManualClock) -> None:
    models = FakeModels(lambda _: models.hang())
    guest = Guest(models, clock)
    guest.write()
    room = guest.session._room
    task = asyncio.create_task(guest.chat.send(guest.call(guest.handle, AUTO_TOOL_CALL)))  # type: ignore[arg-type]
    await models.asked.wait()
    guest.handle.close()
    assert room.taken > 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert models.cancelled == 1
    assert guest.agent.meter.reserved == Usage()
    assert room.taken == 0


def test_what_does_not_fit_is_refused_with_a_line(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Guest(FakeModels(reply()), clock)
    monkeypatch.setattr("spear.hostcalls.llm.chat.session.SESSION_BYTES_MAX", 10)
    assert guest.write() == -ENOMEM
    assert guest.set("k", 1) == -ENOMEM
    assert guest.chat.write_function(guest.call(guest.handle, 1, b"{}")) == -ENOMEM
    assert "do not fit" in guest.last.lines[0][1]


def test_a_tool_or_a_value_of_no_use_is_taken_with_a_warning(clock: ManualClock) -> None:
    guest = Guest(FakeModels(reply()), clock)
    assert guest.chat.write_function(guest.call(guest.handle, 1, b"no json")) == 0
    assert "left out" in guest.last.lines[0][1]
    assert guest.set("timeout_ms", "soon") == 0
    assert "counts as not set" in guest.last.lines[0][1]
    assert guest.set("temperature", 1) == 0
    assert guest.last.lines == []


def test_what_set_param_refuses(clock: ManualClock) -> None:
    guest = Guest(FakeModels(reply()), clock)
    control = guest.chat.control
    assert control(guest.call(guest.handle, 1, b"no json")) == -EIO
    assert control(guest.call(guest.handle, 1, b'{"key":"","value":1}')) == -EIO
    assert control(guest.call(guest.handle, 7, b"{}")) == -EINVAL
    assert control(guest.call(FakeHandle(CHAT_RESPONSE), 1, b"no json")) == 0
    assert guest.set("mcp.enabled", True) == -EACCES
    assert guest.set("mcp.enabled", 1) == -EINVAL
    assert guest.set("mcp.server_ids", ["fs"]) == -EACCES


def test_all_sessions_of_an_execution_share_their_room() -> None:
    who, other = agent(), agent()
    first, second, third = (
        chats._session(FakeCall(each), FakeHandle(CHAT_SESSION))  # type: ignore[arg-type]
        for each in (who, who, other)
    )
    assert first._room is second._room
    assert first._room is not third._room


async def test_embeddings_are_a_response(clock: ManualClock) -> None:
    chat, who = Chat(FakeModels(reply()), clock), agent()
    call: Any = FakeCall(who, b'{"input":["a","b"],"model":"m"}', METRICS)
    response: Any = await chat.embed(call)
    assert response.kind == CHAT_RESPONSE
    _, body, about = response.result
    assert b'"_spear":{"backend":"fake","model":"m"}' in body
    assert json.loads(about)["iterations"] == 1
    bad: Any = FakeCall(who, b"{}", 0)
    assert await chat.embed(bad) == -EINVAL
    assert "no request" in bad.lines[0][1]


async def test_embeddings_that_fail_are_an_error_document(clock: ManualClock) -> None:
    chat = Chat(FakeModels(ModelUnavailable("gone", code="c")), clock)
    call: Any = FakeCall(agent(), b'{"input":"a"}', 0)
    response: Any = await chat.embed(call)
    assert response.result[1] == b'{"error":{"code":"c","message":"gone"}}'


async def test_a_guest_is_told_once_of_backends_that_its_task_names_in_vain(
    clock: ManualClock,
) -> None:
    chat, who = Chat(FakeModels(reply()), clock), agent({"llm.backends": "fake,gone"})
    first, second = (FakeCall(who, b'{"input":"a"}', 0) for _ in range(2))
    await chat.embed(first)  # type: ignore[arg-type]
    await chat.embed(second)  # type: ignore[arg-type]
    assert (first.lines, second.lines) == ([(3, "no gone")], [])
    alone = FakeCall(agent({"llm.backends": "gone"}), b'{"input":"a"}', 0)
    await chat.embed(alone)  # type: ignore[arg-type]
    assert alone.lines == [(3, "no gone")]


def test_a_guest_without_an_agent_is_a_mistake_of_the_host() -> None:
    call: Any = FakeCall(None)
    with pytest.raises(RuntimeError, match="Agent"):
        chats._session(call, FakeHandle(CHAT_SESSION))  # type: ignore[arg-type]


async def test_what_a_guest_drafted_is_in_the_session_before_anything_else(
    clock: ManualClock,
) -> None:
    models = FakeModels(reply())
    guest = Guest(models, clock)
    guest.handle.drafted = [
        (MESSAGE, b"system", "schön".encode()),
        (SETTING, b'{"key":"model","value":"m"}', b""),
    ]
    guest.write("last")
    assert guest.handle.drafts_left == SETTINGS_MAX - DRAFTS_MAX - 1
    await guest.send()
    assert models.requests[0].model == "m"
    assert [message["content"] for message in models.requests[0].messages] == ["schön", "last"]


async def test_what_a_tool_drafts_comes_before_its_result(clock: ManualClock) -> None:
    models = FakeModels(reply(None, calls=[tool_call("f")]), reply("done"))
    guest = Guest(models, clock)
    guest.write()

    def tool(_: Any) -> tuple[int, str]:
        guest.handle.drafted.append((MESSAGE, b"user", b"from the tool"))
        return 0, "result"

    guest.offer("f", 3, tool)
    await guest.send(AUTO_TOOL_CALL)
    contents = [message["content"] for message in models.requests[1].messages]
    assert contents == ["hello", None, "from the tool", "result"]


def test_drafts_are_only_taken_while_they_fit_for_certain() -> None:
    session = Session(Room())
    assert session.drafts_left == SETTINGS_MAX - DRAFTS_MAX - 1
    for _ in range(MESSAGES_MAX - DRAFTS_MAX - 1):
        session.write("user", "")
    assert session.drafts_left == 0


def test_what_was_drafted_is_taken_whatever_an_answer_has_added_since() -> None:
    session = Session(Room())
    session.answer({"role": "assistant", "content": "x" * SESSION_BYTES_MAX})
    with pytest.raises(SessionFull):
        session.write("user", "")
    session.draft(MESSAGE, b"system", b"short", 99)
    session.draft(SETTING, b'{"key":"model","value":"m"}', b"", 91)
    assert session.messages[-1] == {"role": "system", "content": "short"}
    assert session.params.model == "m"


async def test_as_many_drafts_as_fit_lose_none_to_the_call_behind_them(clock: ManualClock) -> None:
    models = FakeModels(reply())
    guest = Guest(models, clock)
    guest.write("0")
    session = guest.handle.value
    while session.drafts_left > 0:
        session.write("user", "")
    for number in range(DRAFTS_MAX):
        guest.handle.drafted.append((MESSAGE, b"user", str(number).encode()))
    assert guest.write("last") == 0
    assert len(session.messages) == MESSAGES_MAX
    assert session.messages[-1]["content"] == "last"

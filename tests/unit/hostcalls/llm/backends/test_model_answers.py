"""What upstream errors mean, when to come back, and what the stub says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from manual_clock import ManualClock

from spear.errors import InvalidArgument, ModelGarbled, ModelRefused, ModelUnavailable
from spear.hostcalls.llm.backends.answers import decode, error_of, failure, retry_after_ms
from spear.hostcalls.llm.backends.assembly import Assembly
from spear.hostcalls.llm.backends.interface import Backend
from spear.hostcalls.llm.backends.make import make_backend
from spear.hostcalls.llm.backends.openai import OpenAiReader
from spear.hostcalls.llm.backends.stub import vector
from spear.hostcalls.llm.request import ChatRequest, Delta, EmbedRequest, Reply
from spear.records.models import OPENAI, STUB, BackendSpec

NOW_NS = 1_700_000_000 * 10**9  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2", 2000), ("0", 0), ("1.5", 1500), (" 2", 0), ("99999", 3_600_000), ("1e999", 3_600_000),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30_000), ("Tue, 14 Nov 2023 22:13:19 GMT", 0),
        ("Tue, 14 Nov 2099 22:13:19 GMT", 3_600_000), ("soon", 0), ("", 0), ("-5", 0), ("nan", 0),
        ("5x", 0), ("Tue, 99 Nov 2023 22:13:50 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str, ms: int) -> None:
    assert retry_after_ms({"retry-after": text}, NOW_NS) == ms


@pytest.mark.parametrize(
    ("document", "parts"),
    [
        ({"error": {"type": "t", "code": "c", "message": "m", "param": 1}}, "t: c: m"),
        ({"error": {"type": None, "code": 5, "message": "m"}}, "5: m"),
        ({"type": "error", "error": {"type": "t", "message": "m"}}, "t: m"),
        ({"error": "text"}, "text"),
        ({"message": "m"}, "m"),
        ({"detail": "d"}, "d"),
        ({"error": {"message": {"a": 1}}}, ""),
        ({"error": [1]}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_error_documents_of_all_forms_are_told_in_one_line(document: Any, parts: str) -> None:
    error = failure(400, error_of(document), {}, NOW_NS)
    assert str(error) == "upstream status: 400" + (f": {parts}" if parts else "")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, ModelRefused), (400, ModelRefused), (401, ModelRefused), (404, ModelRefused),
     (408, ModelRefused), (422, ModelRefused), (429, ModelUnavailable), (500, ModelUnavailable),
     (503, ModelUnavailable), (529, ModelUnavailable)],
)  # fmt: skip
def test_a_status_says_whether_another_try_can_help(status: int, kind: type) -> None:
    error = failure(status, {}, {"retry-after": "3"}, NOW_NS)
    assert type(error) is kind
    assert error.http_status == status
    assert getattr(error, "retry_after_ms", 3000) == 3000


@pytest.mark.parametrize("data", [b"", b"{", b"<html>", b'"\xff"', b"[" * 100_000, b"NaN"])
def test_what_is_no_json_is_garbled(data: bytes) -> None:
    with pytest.raises(ModelGarbled, match="not JSON"):
        decode(data)


def test_an_assembly_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spear.hostcalls.llm.backends.assembly.ANSWER_CHARS_MAX", 10)
    assembly = Assembly()
    assembly.text("x" * 10)
    for grow in (
        lambda: assembly.text("y"),
        lambda: Assembly().text("x" * 11),
        lambda: Assembly().calls([{"index": n} for n in range(11)]),
        lambda: Assembly().calls([{"function": {"arguments": "x" * 10}}]),
    ):
        with pytest.raises(ModelGarbled, match="larger than 10"):
            grow()


def test_an_answer_with_ever_new_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes memory, however short its text is."""
    monkeypatch.setattr("spear.hostcalls.llm.backends.assembly.ANSWER_CHARS_MAX", 10_000)
    reader = OpenAiReader()
    keys = ",".join(f'"key{n}":""' for n in range(1000))
    with pytest.raises(ModelGarbled, match="larger than 10000"):
        list(reader.feed(f'data: {{"choices":[{{"delta":{{{keys}}}}}]}}\n\n'.encode()))


# The stub, as the guest ABI says it


def stub() -> Backend:
    return make_backend(BackendSpec(name="s", kind=STUB, hosting="local"), ManualClock())


def sum_tool(**kinds: str) -> dict[str, Any]:
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": "sum", "parameters": schema}}


def says(text: str, **values: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "first 9"}, {"role": "user", "content": text}]
    return ChatRequest(messages=messages, **values)


async def message_of(request: ChatRequest) -> dict[str, Any]:
    body = (await stub().chat(request, "")).body
    message: dict[str, Any] = body["choices"][0]["message"]
    return message


async def test_the_stub_answers_a_fixed_text_without_tools() -> None:
    assert await message_of(says("hello")) == {
        "role": "assistant", "content": "stub chat completion",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "tool", "arguments"),
    [
        ("what is 12 + 30?", sum_tool(a="integer", b="integer"), '{"a":12,"b":30}'),
        ("-3 and 4, then 5", sum_tool(a="integer", b="integer"), '{"a":-3,"b":4}'),
        ("7", sum_tool(a="integer", b="integer"), '{"a":7}'),
        ("none", sum_tool(a="integer"), "{}"),
        ("1 2", sum_tool(name="string", a="integer"), '{"a":1}'),
        ("v1 3.5 x2y 8", sum_tool(a="integer"), '{"a":8}'),
        ("1", {"name": "sum"}, "{}"),
        ("1", {"function": {"name": "sum", "parameters": {"properties": [1]}}}, "{}"),
    ],
)
async def test_the_stub_calls_the_first_tool_with_the_first_integers(
    text: str, tool: dict[str, Any], arguments: str
) -> None:
    message = await message_of(says(text, tools=[tool, sum_tool(z="integer")]))
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"] == {"name": "sum", "arguments": arguments}


async def test_the_stub_says_so_once_a_tool_has_answered() -> None:
    request = ChatRequest(
        messages=[{"role": "user", "content": "1"}, {"role": "tool", "content": "1"}],
        tools=[sum_tool(a="integer")],
    )
    assert (await message_of(request))["content"] == "stub chat completion after tool"


async def test_the_stub_says_the_same_each_time_whole_or_streamed() -> None:
    for request in (says("hello"), says("1 2", tools=[sum_tool(a="integer")])):
        whole = await stub().chat(request, "m")
        assert whole == await stub().chat(request, "m")
        deltas: list[Delta] = []
        last = await stub().stream(request, "m", deltas.append)
        assert last == whole
        message = whole.body["choices"][0]["message"]
        assert "".join(p.content for p in deltas) == (message["content"] or "")
        assert [c for p in deltas for c in p.tool_calls] == [
            {"index": n, **call} for n, call in enumerate(message.get("tool_calls", []))
        ]


async def test_the_stub_counts_what_it_was_asked_and_what_it_said() -> None:
    usage = (await stub().chat(says("three words here"), "")).usage
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (1, 5, 3)


def near(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))


def test_near_texts_have_near_vectors() -> None:
    question = "how do I reset my password"
    answers = ["Resetting a password: open settings", "The weather is fine", "Invoices and taxes"]
    assert max(answers, key=lambda text: near(question, text)) == answers[0]
    assert near(question, question) == pytest.approx(1, abs=1e-3)
    assert near(question, question.upper()) == pytest.approx(1, abs=1e-3)
    assert set(vector(" .,")) == {0.0}


async def test_the_stub_lets_others_run_between_texts() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await stub().embed(EmbedRequest(texts=["word"] * 20), "m")
    task.cancel()
    assert turns >= 20


async def test_the_stub_embeds_each_text_in_its_place() -> None:
    reply = await stub().embed(EmbedRequest(texts=["a b", "c"]), "")
    assert isinstance(reply, Reply)
    assert [(d["index"], d["embedding"]) for d in reply.body["data"]] == [
        (0, vector("a b")), (1, vector("c")),
    ]  # fmt: skip
    assert reply.usage.prompt_tokens == 3


@pytest.mark.parametrize("credential", ["secret\nx", "secret word", "sécret"])
def test_a_credential_that_no_header_can_carry_is_refused_and_not_repeated(credential: str) -> None:
    spec = BackendSpec(name="x", kind=OPENAI, hosting="remote", base_url="http://h")
    with pytest.raises(InvalidArgument) as caught:
        make_backend(spec, ManualClock(), credential)
    assert "cret" not in str(caught.value)


def test_an_unknown_kind_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidArgument, match="'nope' is none of openai_chat_completion, "):
        make_backend(BackendSpec(name="x", kind="nope", hosting="local"), ManualClock())

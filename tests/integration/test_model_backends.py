"""One contract for all kinds of backends, against servers that speak their API, and each fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spear.clock import Clock
from spear.errors import (
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from spear.hostcalls.llm.backends import http_backend
from spear.hostcalls.llm.backends.interface import Backend
from spear.hostcalls.llm.backends.make import make_backend
from spear.hostcalls.llm.request import ChatRequest, Delta, EmbedRequest, Reply
from spear.records.models import ANTHROPIC, LOCAL, OLLAMA, OPENAI, STUB, BackendSpec
from tests.fakes.anthropic import AnthropicFake
from tests.fakes.ollama import OllamaFake
from tests.fakes.openai import OpenAiFake
from tests.fakes.server import Fake
from tests.fakes.step import HANG_BEFORE, HANG_WITHIN, Call, Step

KEY = "sk-canary-0123456789"
FAKES = {OPENAI: OpenAiFake, OLLAMA: OllamaFake, ANTHROPIC: AnthropicFake}
SUM = {
    "type": "function",
    "function": {
        "name": "sum",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
}
HELLO = ChatRequest(messages=[{"role": "user", "content": "hello there"}])
ADD = ChatRequest(messages=[{"role": "user", "content": "add 3 and 4"}], tools=[SUM])
ALL, OVER_HTTP = [*FAKES, STUB], [*FAKES]

Pair = tuple[Fake, Backend]


def backend_for(fake: Fake, kind: str, key: str = KEY) -> Backend:
    spec = BackendSpec(name="under-test", kind=kind, hosting=LOCAL, base_url=fake.url)
    return make_backend(spec, Clock(), key)


@contextlib.asynccontextmanager
async def pair_of(kind: str) -> AsyncIterator[Pair]:
    async with FAKES.get(kind, OpenAiFake)(key=KEY) as fake:
        backend = backend_for(fake, kind)
        yield fake, backend
        await backend.close()


async def streamed(backend: Backend, request: ChatRequest) -> tuple[list[Delta], Reply]:
    deltas: list[Delta] = []
    reply = await backend.stream(request, "m", deltas.append)
    return deltas, reply


async def chat(backend: Backend, request: ChatRequest = HELLO) -> object:
    return await backend.chat(request, "m")


async def stream(backend: Backend, request: ChatRequest = HELLO) -> object:
    return await streamed(backend, request)


def message_of(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = reply.body["choices"][0]["message"]
    return message


def within(ns: int) -> ChatRequest:
    return ChatRequest(messages=HELLO.messages, deadline_ns=Clock().monotonic_ns() + ns)


both = pytest.mark.parametrize("ask", [chat, stream])


# The contract


@pytest.mark.parametrize("kind", ALL)
async def test_a_chat_is_answered_in_openais_form(kind: str) -> None:
    async with pair_of(kind) as (_, backend):
        reply = await backend.chat(HELLO, "m")
        assert reply.backend == "under-test"
        assert reply.model == reply.body["model"] == "m"
        assert reply.body["object"] == "chat.completion"
        assert reply.body["choices"][0]["finish_reason"] == "stop"
        assert message_of(reply)["role"] == "assistant"
        assert message_of(reply)["content"]
        used = reply.body["usage"]
        assert reply.usage.calls == 1
        assert reply.usage.prompt_tokens == used["prompt_tokens"] > 0
        assert reply.usage.completion_tokens == used["completion_tokens"] > 0


@pytest.mark.parametrize("kind", ALL)
async def test_the_reply_names_the_model_that_was_asked_for(kind: str) -> None:
    async with pair_of(kind) as (_, backend):
        asked = ChatRequest(messages=HELLO.messages, model="alias")
        assert (await backend.chat(asked, "m")).model == "alias"


@pytest.mark.parametrize("kind", ALL)
async def test_a_tool_is_called_and_its_result_is_taken(kind: str) -> None:
    async with pair_of(kind) as (_, backend):
        message = message_of(await backend.chat(ADD, "m"))
        (call,) = message["tool_calls"]
        assert call["type"] == "function"
        assert call["function"] == {"name": "sum", "arguments": '{"a":3,"b":4}'}
        result = {"role": "tool", "tool_call_id": call["id"], "content": "7"}
        after = ChatRequest(messages=[*ADD.messages, message, result], tools=[SUM])
        message = message_of(await backend.chat(after, "m"))
        assert "tool_calls" not in message
        assert message["content"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("request_", [HELLO, ADD], ids=["text", "tool"])
async def test_a_stream_says_what_the_whole_answer_does(kind: str, request_: ChatRequest) -> None:
    async with pair_of(kind) as (_, backend):
        whole = await backend.chat(request_, "m")
        deltas, reply = await streamed(backend, request_)
        wanted, found = message_of(whole), message_of(reply)
        assert found.get("tool_calls") == wanted.get("tool_calls")
        assert found["content"] == wanted["content"]
        assert "".join(delta.content for delta in deltas) == (wanted["content"] or "")
        assert len(deltas) > (request_ is HELLO)
        joined = "".join(
            piece["function"].get("arguments", "") for d in deltas for piece in d.tool_calls
        )
        calls = wanted.get("tool_calls", [])
        assert joined == "".join(call["function"]["arguments"] for call in calls)
        assert reply.body["usage"] == whole.body["usage"]
        assert reply.usage.prompt_tokens == whole.usage.prompt_tokens


@pytest.mark.parametrize("kind", OVER_HTTP)
@pytest.mark.parametrize("cut", [1, 3, 50])
async def test_a_stream_may_be_cut_anywhere(kind: str, cut: int) -> None:
    async with pair_of(kind) as (fake, backend):
        text = "Grüße an 世界"
        fake.script(Step(text=text, cut=cut))
        deltas, reply = await streamed(backend, HELLO)
        assert message_of(reply)["content"] == "".join(d.content for d in deltas) == text


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_tool_calls_with_one_id_stay_two(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        calls = (Call("sum", {"a": 1}, "same"), Call("sum", {"a": 2}, "same"))
        fake.script(Step(calls=calls), Step(calls=calls))
        whole = message_of(await backend.chat(ADD, "m"))["tool_calls"]
        _, reply = await streamed(backend, ADD)
        assert [call["function"]["arguments"] for call in whole] == ['{"a":1}', '{"a":2}']
        assert message_of(reply)["tool_calls"] == whole


@pytest.mark.parametrize("kind", [OPENAI, OLLAMA, STUB])
async def test_embeddings_come_in_the_order_of_their_texts(kind: str) -> None:
    async with pair_of(kind) as (_, backend):
        reply = await backend.embed(EmbedRequest(texts=["a", "bbb"]), "m")
        assert (reply.body["object"], reply.body["model"], reply.model) == ("list", "m", "m")
        assert [(d["object"], d["index"]) for d in reply.body["data"]] == [
            ("embedding", 0), ("embedding", 1),
        ]  # fmt: skip
        if kind != STUB:
            assert [d["embedding"][0] for d in reply.body["data"]] == [1.0, 3.0]
        assert reply.usage.prompt_tokens == reply.body["usage"]["prompt_tokens"] > 0


async def test_anthropic_has_no_embeddings() -> None:
    async with pair_of(ANTHROPIC) as (fake, backend):
        with pytest.raises(ModelRefused, match="no embeddings"):
            await backend.embed(EmbedRequest(texts=["a"]), "m")
        assert fake.requests == []


@pytest.mark.parametrize("kind", ALL)
async def test_a_probe_finds_the_server(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        await backend.probe()
        assert fake.looked == (kind != STUB)


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_a_probe_tells_of_a_wrong_key_and_of_no_server(kind: str) -> None:
    async with pair_of(kind) as (fake, _):
        backend = backend_for(fake, kind, "wrong")
        with pytest.raises(ModelRefused, match="upstream status: 401"):
            await backend.probe()
        await backend.close()
    backend = backend_for(fake, kind)
    with pytest.raises(ModelUnavailable, match="no connection"):
        await backend.probe()


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_what_no_upstream_needs_to_be_asked_is_refused(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        with pytest.raises(ModelRefused, match="missing model"):
            await backend.chat(HELLO, "")
        with pytest.raises(ModelRefused, match="empty messages"):
            await backend.chat(ChatRequest(messages=[]), "m")
        with pytest.raises(ModelRefused, match="empty messages"):
            await streamed(backend, ChatRequest(messages=[]))
        assert fake.requests == []


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_connections_are_kept(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        for _ in range(3):
            await backend.chat(HELLO, "m")
        assert (fake.connections, len(fake.requests)) == (1, 3)
        await asyncio.gather(*(backend.chat(HELLO, "m") for _ in range(3)))
        assert fake.connections == 3


# Faults


@pytest.mark.parametrize("kind", OVER_HTTP)
@both
@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ModelRefused), (404, ModelRefused), (429, ModelUnavailable), (503, ModelUnavailable)],
)
async def test_a_status_becomes_an_error(
    kind: str, ask: Callable[..., Any], status: int, error: type[ModelError]
) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(status=status, error="the reason", headers={"Retry-After": "7"}))
        with pytest.raises(error, match=rf"^upstream status: {status}: .*the reason$") as caught:
            await ask(backend)
        assert caught.value.http_status == status
        assert caught.value.backend == "under-test"
        assert caught.value.code == ""
        assert getattr(caught.value, "retry_after_ms", 7000) == 7000
        await ask(backend)
        assert (fake.connections, len(fake.requests)) == (1, 2)


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_a_redirect_is_not_followed(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(status=307, headers={"Location": fake.url}))
        with pytest.raises(ModelRefused, match="upstream status: 307"):
            await backend.chat(HELLO, "m")
        assert len(fake.requests) == 1


@pytest.mark.parametrize("kind", OVER_HTTP)
@both
@pytest.mark.parametrize("hang", [HANG_BEFORE, HANG_WITHIN])
async def test_an_upstream_that_hangs_is_left_at_the_deadline(
    kind: str, ask: Callable[..., Any], hang: str
) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(hang=hang))
        with pytest.raises(ModelTimeout) as caught:
            await ask(backend, within(100_000_000))
        assert caught.value.backend == "under-test"
        await fake.wait_gone(1)


@pytest.mark.parametrize("kind", OVER_HTTP)
@both
@pytest.mark.parametrize("hang", [HANG_BEFORE, HANG_WITHIN])
async def test_a_caller_that_is_cancelled_ends_the_request_upstream(
    kind: str, ask: Callable[..., Any], hang: str
) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(hang=hang))
        task = asyncio.create_task(ask(backend))
        await fake.wait_requests(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fake.wait_gone(1)


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_closing_a_stream_ends_the_request_upstream(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(text="one two three four", hang=HANG_WITHIN))
        pieces = asyncio.Queue[Delta]()
        task = asyncio.create_task(backend.stream(HELLO, "m", pieces.put_nowait))
        assert await pieces.get() == Delta(content="one")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fake.wait_gone(1)


@pytest.mark.parametrize("kind", OVER_HTTP)
@both
async def test_a_connection_that_drops_is_an_answer_that_broke_off(
    kind: str, ask: Callable[..., Any]
) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(drop=True))
        with pytest.raises(ModelGarbled, match="broke off"):
            await ask(backend)
        await ask(backend)


@pytest.mark.parametrize("kind", OVER_HTTP)
@both
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>busy</html>", "text/html"),
        (b"{", ""),
        (b"data: {\n\n", "text/event-stream"),
        (b"data: \xff\xfe\n\n", "text/event-stream"),
        (b'{"message":{"content":"\xe4\xb8"}}\n', "application/x-ndjson"),
        (b"[" * 100_000, ""),
        (b"", ""),
    ],
)
async def test_garbage_is_an_error(
    kind: str, ask: Callable[..., Any], body: bytes, content_type: str
) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(body=body, content_type=content_type))
        with pytest.raises(ModelGarbled) as caught:
            await ask(backend)
        assert caught.value.backend == "under-test"


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_an_answer_that_is_huge_is_an_error(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_backend, "STREAM_BYTES_MAX", 300_000)
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(body=b" " * (17 * 1024**2)))
        with pytest.raises(ModelGarbled, match="larger than 16777216"):
            await backend.chat(HELLO, "m")
        fake.script(Step(text="word " * 5000))
        with pytest.raises(ModelGarbled, match="larger than 300000"):
            await streamed(backend, HELLO)


@pytest.mark.parametrize("kind", OVER_HTTP)
@pytest.mark.parametrize("status", [200, 503])
async def test_what_comes_whole_instead_of_a_stream_is_no_larger_than_an_answer(
    kind: str, status: int
) -> None:
    async with pair_of(kind) as (fake, backend):
        body = b'{"error":{"message":"far down"},"x":"' + b"x" * (17 * 1024**2) + b'"}'
        fake.script(Step(body=body, status=status, content_type="application/json"))
        with pytest.raises(ModelError) as caught:
            await streamed(backend, HELLO)
        told = "larger than 16777216 bytes" if status == 200 else "upstream status: 503"
        assert str(caught.value).endswith(told)


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_an_error_within_a_stream_comes_after_its_pieces(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(text="one two", error="out of memory"))
        pieces: list[Delta] = []
        with pytest.raises(ModelUnavailable, match="out of memory") as caught:
            await backend.stream(HELLO, "m", pieces.append)
        assert pieces == [Delta(content="one"), Delta(content=" two")]
        assert caught.value.code
        assert caught.value.backend == "under-test"


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_an_error_says_whether_the_upstream_was_sent_the_request(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(
            Step(text="one", error="out of memory"), Step(status=503), Step(hang=HANG_BEFORE)
        )
        for asked in (HELLO, HELLO, within(50_000_000)):
            with pytest.raises(ModelError) as caught:
                await streamed(backend, asked)
            assert caught.value.reached
        with pytest.raises(ModelRefused) as caught:
            await backend.chat(ChatRequest(messages=[]), "m")
        assert not caught.value.reached
    with pytest.raises(ModelUnavailable, match="no connection") as caught:
        await backend_for(fake, kind).chat(HELLO, "m")
    assert not caught.value.reached


@pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC])
async def test_an_upstream_that_does_not_stream_is_understood(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.streams = lambda document: False  # type: ignore[method-assign]
        deltas, reply = await streamed(backend, ADD)
        assert [piece["id"] for delta in deltas for piece in delta.tool_calls] == [
            call["id"] for call in message_of(reply)["tool_calls"]
        ]


@pytest.mark.parametrize("kind", OVER_HTTP)
@both
async def test_no_error_repeats_the_credential(kind: str, ask: Callable[..., Any]) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.key = "another"  # so that the fake tells which one it got
        with pytest.raises(ModelRefused, match=r"401.*\[redacted:") as caught:
            await ask(backend)
        error: BaseException | None = caught.value
        while error is not None:
            assert KEY not in f"{error!r} {error} {vars(error)}"
            error = error.__cause__ or error.__context__


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_what_an_upstream_says_is_bounded_and_printable(kind: str) -> None:
    async with pair_of(kind) as (fake, backend):
        fake.script(Step(status=400, error="a\n\x1b[31m" + "x" * 100_000 + KEY))
        with pytest.raises(ModelRefused) as caught:
            await backend.chat(HELLO, "m")
        assert len(str(caught.value)) < 1100
        assert str(caught.value).isprintable()


async def test_an_openai_answer_comes_back_unchanged() -> None:
    body = b'{"z":1,"choices":[{"message":{"content":"x","odd":[1.5,null]}}],"a":{"b":"\\u00e4"}}'
    async with pair_of(OPENAI) as (fake, backend):
        fake.script(Step(body=body))
        reply = await backend.chat(HELLO, "m")
        assert list(reply.body) == ["z", "choices", "a"]
        assert reply.body["choices"][0]["message"] == {"content": "x", "odd": [1.5, None]}
        assert reply.body["a"] == {"b": "ä"}
        assert reply.usage.prompt_tokens == reply.usage.completion_tokens == 0
        assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_many_streams_at_once_are_each_their_own() -> None:
    async with pair_of(OPENAI) as (_, backend):
        requests = [
            ChatRequest(messages=[{"role": "user", "content": f"number {n}"}]) for n in range(50)
        ]
        answers = await asyncio.gather(*(streamed(backend, request) for request in requests))
        assert [message_of(reply)["content"] for _, reply in answers] == [
            f"You said: number {n}" for n in range(50)
        ]

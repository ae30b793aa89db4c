"""What upstreams say and should not: numbers beyond all numbers, errors as successes, counts that
are none. Each is read as it is meant, or is a clear error; none is a way around a budget."""

from __future__ import annotations

from typing import Any

import pytest
from chat_node import chat_node, openai
from model_apis import APIS, every_api

from tests.fakes.openai import OpenAiFake
from tests.fakes.step import HANG_BEFORE, HANG_WITHIN, Step

EMBEDDING = ("openai", "ollama")
# An answer of each API, whole, with a place for a value that nobody reads.
WHOLE = {
    "openai": '{"x":%s,"choices":[{"message":{"role":"assistant","content":"hi"}}]}',
    "ollama": '{"x":%s,"message":{"role":"assistant","content":"hi"},"done":true}',
    "anthropic": '{"x":%s,"content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}',
}
PIECE = {
    "openai": 'data: {"id":"1","x":%s,"choices":[{"delta":{"content":"hi"}}]}\n\n',
    "ollama": '{"x":%s,"message":{"content":"hi"}}\n',
    "anthropic": 'data: {"type":"content_block_delta","x":%s,"index":0,'
    '"delta":{"type":"text_delta","text":"hi"}}\n\n',
}
VECTORS = '{"x":%s,"data":[{"embedding":[1.5]}],"embeddings":[[1.5]]}'
BOM = b"\xef\xbb\xbf"
ODD = ["1e400", "-1e400", "[1e400]", "NaN", "-Infinity", "01", "9" * 5000, r'"\ud800"', "'a'", ""]


async def told(api: str, step: Step, *words: str, **more: Any) -> list[Any]:
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        if step.content_type == "stream":
            step = Step(body=step.body, content_type=fake.stream_type)
        fake.default = step
        return await node.talk(*words, **more)


def garbled(document: Any) -> bool:
    said = document["error"]["message"]
    return set(document["error"]) == {"message"} and said.startswith("the answer is not JSON that")


@every_api
@pytest.mark.parametrize("value", ODD)
async def test_what_is_no_json_is_told_with_the_reason(value: str, api: str) -> None:
    body = (WHOLE[api] % value).encode()
    for document in await told(api, Step(body=body), "m=x", "s=0", "s=2"):
        assert garbled(document)
    piece = Step(body=(PIECE[api] % value).encode(), content_type="stream")
    event, document = await told(api, piece, "m=x", "r=0")
    assert event == {"type": "error", **document}
    assert garbled(document)
    if api in EMBEDDING:
        vectors = Step(body=(VECTORS % value).encode())
        assert garbled((await told(api, vectors, 'e={"input":"a"}'))[0])


@every_api
async def test_a_mark_of_the_byte_order_is_read_over(api: str) -> None:
    body = BOM + (WHOLE[api] % "1").encode()
    for document in await told(api, Step(body=body), "m=x", "s=0", "s=2"):
        assert document["choices"][0]["message"]["content"] == "hi"
    if api in EMBEDDING:
        vectors = Step(body=BOM + (VECTORS % "1").encode())
        (document,) = await told(api, vectors, 'e={"input":"a"}')
        assert document["data"][0]["embedding"] == [1.5]


async def test_of_equal_keys_the_last_counts_and_who_answered_is_ours_to_say() -> None:
    body = b'{"a":1,"_spear":{"backend":"evil"},"choices":[],"a":2,"choices":[{"message":{}}]}'
    (document,) = await told("openai", Step(body=body), "m=x", "s=2")
    assert document == {
        "a": 2, "choices": [{"message": {}}], "_spear": {"backend": "fake", "model": "m"},
    }  # fmt: skip


# ---- errors with the status of success

ERRORS = [
    (b'{"error":"no room"}', {"code": "upstream_error", "message": "no room"}),
    (b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}',
     {"code": "overloaded_error", "message": "busy"}),
    (b'{"error":{"code":503,"message":"busy"},"choices":[],"data":[]}',
     {"code": "503", "message": "busy"}),
    (b'{"error":{}, "x":1, "error":true}',
     {"code": "upstream_error", "message": "the upstream ended the answer by an error"}),
]  # fmt: skip


@every_api
@pytest.mark.parametrize(("body", "error"), ERRORS)
async def test_an_error_with_the_status_of_success_is_one(
    body: bytes, error: dict[str, str], api: str
) -> None:
    words = ["m=x", "s=0", "s=2", "r=0", *['e={"input":"a"}'] * (api in EMBEDDING)]
    *documents, event, document = await told(
        api, Step(body=body, content_type="application/json"), *words[:4]
    )
    assert documents == [{"error": error}] * 2
    assert (event, document) == ({"type": "error", "error": error}, {"error": error})
    if api in EMBEDDING:
        assert await told(api, Step(body=body), words[4]) == [{"error": error}]


async def test_another_backend_answers_where_one_says_so() -> None:
    async with OpenAiFake() as bad, OpenAiFake() as good:
        bad.default = Step(body=ERRORS[0][0])
        async with chat_node(openai(bad.url, "bad", priority=1), openai(good.url, "good")) as node:
            (document,) = await node.talk("m=x", "s=0")
            assert document["_spear"]["backend"] == "good"
            assert node.usage.calls == 2


async def test_an_error_beside_an_answer_is_a_part_of_it() -> None:
    body = b'{"choices":[{"message":{"content":"hi"}}],"error":{"message":"slow today"}}'
    (document,) = await told("openai", Step(body=body), "m=x", "s=0")
    assert (document["error"], len(document["choices"])) == ({"message": "slow today"}, 1)


@pytest.mark.parametrize("api", EMBEDDING)
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_vector_too_few_or_too_many_is_an_error(count: int, api: str) -> None:
    vectors = ",".join(["[1.5]"] * count)
    objects = ",".join(['{"embedding":[1.5]}'] * count)
    body = f'{{"data":[{objects}],"embeddings":[{vectors}]}}'.encode()
    (document,) = await told(api, Step(body=body), 'e={"input":["a","b"]}')
    assert document["error"]["message"] == f"2 texts were sent, {count} vectors came"


# ---- counts of tokens

COUNTS = ["-3", "3.5", "1e300", "9" * 30, '"3"', "true", "null", "[3]", "{}"]
USAGE = {
    "openai": ',"usage":{"prompt_tokens":%s,"completion_tokens":%s,"total_tokens":%s}}',
    "ollama": ',"prompt_eval_count":%s,"eval_count":%s,"total_duration":%s}',
    "anthropic": ',"usage":{"input_tokens":%s,"output_tokens":%s,"x":%s}}',
}


@every_api
@pytest.mark.parametrize("count", [*COUNTS, ""])
async def test_counts_that_are_none_are_no_way_around_a_budget(count: str, api: str) -> None:
    """Each request may have used all that was reserved for it: 400 tokens and its bytes."""
    usage = USAGE[api] % (count, count, count) if count else "}"
    body = ((WHOLE[api] % "1")[:-1] + usage).encode()
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        fake.default = Step(body=body)
        config = {"budget.tokens": "1000"}
        words = ("m=x", "p=max_tokens=400", "x=1", "x=1", "x=1", "x=1")
        first, metrics, *_, last, _ = await node.talk(*words, config=config)
        assert first["choices"][0]["message"]["content"] == "hi"
        assert (metrics["prompt_tokens"], metrics["completion_tokens"]) == (0, 0)
        assert last["error"]["code"] == "budget_spent"
        assert 0 < len(fake.requests) < 3
        assert node.usage.tokens == 0


async def test_a_stream_that_says_nothing_of_its_tokens_is_no_way_around_a_budget() -> None:
    body = b'data: {"id":"1","choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    async with OpenAiFake() as fake, chat_node(openai(fake.url)) as node:
        fake.default = Step(body=body + b"data: [DONE]\n\n", content_type="text/event-stream")
        words = ("m=x", "p=max_tokens=400", "r=0", "r=0", "r=0")
        *_, last = await node.talk(*words, config={"budget.tokens": "1000"})
        assert last["error"]["code"] == "budget_spent"
        assert len(fake.requests) < 3


# ---- time


@every_api
@pytest.mark.parametrize("hang", [HANG_BEFORE, HANG_WITHIN])
async def test_a_time_out_names_the_time_that_was_asked_for(hang: str, api: str) -> None:
    """Wherever the time was spent: in finding who is asked, in connecting, or in waiting."""
    words = ["m=one two three", "p=timeout_ms=150", "s=0", "r=0"]
    words += ['e={"input":"a","timeout_ms":150}'] * (api in EMBEDDING)
    documents = await told(api, Step(hang=hang), *words)
    errors = [document["error"] for document in documents if "error" in document]
    assert len(errors) == len(words) - 1
    for error in errors:
        assert list(error) == ["message"]
        assert error["message"].startswith("backend 'fake' did not answer within 150 ms")


async def test_the_time_of_a_backend_is_named_where_that_is_shorter() -> None:
    async with OpenAiFake() as fake:
        fake.default = Step(hang=HANG_BEFORE)
        settings = openai(fake.url)
        limited = type(settings)(spec=settings.spec, timeout_ns=150_000_000)
        async with chat_node(limited) as node:
            (document,) = await node.talk("m=x", "p=timeout_ms=60000", "s=0")
    assert document["error"]["message"].startswith("backend 'fake' did not answer within 150 ms")

"""Guests that chat, from the import to the HTTP request and back: what the ABI says they see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from chat_node import ChatNode, chat_node, openai, stub

from spear.config_llm import BackendSettings, Price
from tests.fakes.openai import OpenAiFake
from tests.fakes.step import Call, Step

S = 10**9
SUM = Call("same", {"a": 1})
ENDLESS = Step(calls=(SUM,))
STUB_ANSWER = "stub chat completion"


@pytest.fixture
async def fake() -> AsyncIterator[OpenAiFake]:
    async with OpenAiFake() as made:
        yield made  # type: ignore[misc]


@pytest.fixture
async def node(fake: OpenAiFake) -> AsyncIterator[ChatNode]:
    async with chat_node(openai(fake.url)) as made:
        yield made


def fewer(url: str, *features: str) -> BackendSettings:
    """A backend with these features alone."""
    made = openai(url)
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, features=features))


def content(document: dict) -> str:  # type: ignore[type-arg]
    return str(document["choices"][0]["message"]["content"])


# ---- the acceptance programs, written from the ABI's text


async def test_hello_chat_prints_the_compact_response_and_the_backends_name() -> None:
    async with chat_node(stub("offline")) as node:
        run = node.start("hello_chat", "m", "5000")
        outcome = await run
        assert outcome.exit_code == 0, run.output
        document, name, metrics = run.output.decode().splitlines()
        assert name == "backend: offline"
        assert document.endswith(',"_spear":{"backend":"offline","model":"m"}}')
        assert content(json.loads(document)) == STUB_ANSWER
        found = json.loads(metrics.removeprefix("metrics: "))
        assert set(found) == {
            "prompt_tokens", "completion_tokens", "total_tokens", "latency_ms", "iterations",
        }  # fmt: skip
        assert found["iterations"] == 1


async def test_hello_chat_over_http(node: ChatNode, fake: OpenAiFake) -> None:
    run = node.start("hello_chat", "m", "5000")
    await run
    assert b"backend: fake" in run.output
    (seen,) = fake.requests
    assert seen.path == "/v1/chat/completions"
    assert seen.document == {
        "model": "m", "messages": [{"role": "user", "content": "Hello, model!"}],
    }  # fmt: skip
    assert (node.usage.calls, node.usage.tokens) == (1, 18)


@pytest.mark.parametrize("offline", [True, False])
async def test_the_tool_runs_inside_its_send(offline: bool, fake: OpenAiFake) -> None:
    async with chat_node(stub() if offline else openai(fake.url)) as node:
        run = node.start("sum_tool", "What is 7 and 5 ?")
        assert (await run).exit_code == 0
        said, document = run.output.decode().splitlines()
        assert said == 'sum({"a":7,"b":5}) inside a send: 1, ends with NUL: 1'
        assert "_spear" in json.loads(document)
        assert node.usage.calls == 2
    if offline:
        assert content(json.loads(document)) == "stub chat completion after tool"
        return
    first, second = (seen.document["messages"] for seen in fake.requests)
    assert first == second[:1]
    assert [message["role"] for message in second] == ["user", "assistant", "tool"]
    assert second[1]["content"] is None
    (call,) = second[1]["tool_calls"]
    assert second[2] == {"role": "tool", "content": '{"sum":12}', "tool_call_id": call["id"]}


async def test_a_later_send_carries_the_whole_conversation(
    node: ChatNode, fake: OpenAiFake
) -> None:
    fake.script(Step(calls=(SUM,)), Step(text="one"), Step(text="two"))
    await node.talk("m=1", "t=same", "s=2", "m=2", "s=2")
    roles = [message["role"] for message in fake.requests[-1].document["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


# ---- parameters


async def test_parameters_reach_the_request(node: ChatNode, fake: OpenAiFake) -> None:
    await node.talk(
        "m=x", "p=temperature=0.5", "p=stop=[\"a\"]", "p=stream=true", "p=messages=[]",
        "p=model=\"m\"", "p=max_iterations=3", "s=0",
    )  # fmt: skip
    document = fake.requests[0].document
    assert set(document) == {"model", "messages", "temperature", "stop"}
    assert (document["temperature"], document["stop"]) == (0.5, ["a"])


async def test_the_default_policy_refuses_mcp(node: ChatNode) -> None:
    assert await node.talk(
        "p=mcp.enabled=true", "p=mcp.enabled=1", "p=mcp.server_ids=[\"fs\"]",
        "p=mcp.server_ids=7", "p=mcp.task_x=1", "p=mcp.enabled=false", "p==1",
    ) == ["p -13", "p -22", "p -13", "p -22", "p -13", "p -5"]  # fmt: skip


async def test_the_log_says_why_a_parameter_of_mcp_is_refused(node: ChatNode) -> None:
    run = node.start("talker", "p=mcp.enabled=true", "p=mcp.enabled=1")
    assert (await run).exit_code == 0
    assert [line.message for line in run.read_logs() if line.stream != "stdout"] == [
        "cchat_ctl: 'mcp.enabled' is not allowed: MCP is off",
        "cchat_ctl: 'mcp.enabled' has a value of the wrong type",
    ]


async def test_a_pinned_backend_is_the_one_that_answers(fake: OpenAiFake) -> None:
    async with chat_node(openai(fake.url, priority=9), stub()) as node:
        first, second = await node.talk("m=x", "s=0", 'p=backend="stub"', "s=0")
    assert (first["_spear"]["backend"], second["_spear"]["backend"]) == ("fake", "stub")


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
async def test_a_json_schema_needs_a_backend_that_declares_it(kind: str, fake: OpenAiFake) -> None:
    given = f'p=response_format={{"type":"{kind}"}}'
    async with chat_node(fewer(fake.url, "supports_tools")) as node:
        (document,) = await node.talk("m=x", given, "s=0")
    if kind == "json_object":
        assert fake.requests[0].document["response_format"] == {"type": "json_object"}
        return
    assert "'fake' does not declare supports_json_schema" in document["error"]["message"]
    assert fake.requests == []
    async with chat_node(fewer(fake.url, "supports_json_schema")) as node:
        (document,) = await node.talk("m=x", given, "s=0")
    assert "choices" in document
    assert fake.requests[0].document["response_format"] == {"type": "json_schema"}


# ---- error documents


@pytest.mark.parametrize(
    ("words", "steps", "error"),
    [
        (("s=2",), (), {"message": "the session has no message yet: write one before it is sent"}),
        (("m=x", "t=same", "s=2"), (ENDLESS,) * 8,
         {"code": "tool_call_limit", "message": "exceeded max_iterations"}),
        (("m=x", "t=same", "p=max_tool_calls=2", "s=2"), (ENDLESS,) * 3,
         {"code": "tool_call_limit", "message": "exceeded max_total_tool_calls"}),
        (("m=x", "t=fails", "s=2"), (Step(calls=(Call("fails", {}),)),) * 8,
         {"code": "tool_call_limit", "message": "exceeded max_iterations"}),
        (("m=x", "s=0"), (Step(status=400, error="bad"),),
         {"message": "upstream status: 400: invalid_request_error: bad: bad"}),
        (("m=x", "s=0"), (Step(status=503, error="busy"),),
         {"message": "upstream status: 503: server_error: busy"}),
    ],
)  # fmt: skip
async def test_each_failure_is_a_document(
    words: tuple[str, ...], steps: tuple[Step, ...], error: dict[str, str], fake: OpenAiFake
) -> None:
    fake.script(*steps)
    async with chat_node(openai(fake.url)) as node:
        assert await node.talk(*words) == [{"error": error}]


@pytest.mark.parametrize(
    ("words", "name", "error"),
    [
        (("t=fails",), "fails", "tool_exec_failed: tool rc: -7"),
        (("t=wild",), "wild", "tool_exec_failed: tool rc: -5"),
        (("t=greedy",), "greedy", "tool_exec_failed: tool rc: -28"),
        (("t=garbage",), "garbage", "tool_exec_failed: tool rc: -5"),
        (("t=absent",), "absent", "tool_exec_failed: tool rc: -22"),
        (("t=same", "p=tool_arena_len=0"), "same", "tool_exec_failed: tool rc: -14"),
        (("t=same", "p=tool_arena_len=16"), "same", "tool_exec_failed: tool rc: -28"),
        (("t=same", "p=max_tool_output_bytes=3"), "same", "tool_exec_failed: tool rc: -28"),
        (("t=same",), "other", "unknown_tool: unknown tool: other"),
        (("t=same",), "mcp__ZnM__cg",
         "mcp_tool_failed: mcp__ZnM__cg: MCP is not enabled for this session"),
    ],
)  # fmt: skip
async def test_the_model_is_told_of_a_tool_that_fails_and_goes_on(
    words: tuple[str, ...], name: str, error: str, node: ChatNode, fake: OpenAiFake
) -> None:
    fake.script(Step(calls=(Call(name, {"a": 1}, id="c1"),)), Step(text="never mind"))
    (document,) = await node.talk("m=x", *words, "s=2")
    assert content(document) == "never mind"
    code, _, message = error.partition(": ")
    assert fake.requests[1].document["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": f'{{"error":{{"code":"{code}","message":"{message}"}}}}',
    }


async def test_the_stub_goes_on_after_a_tool_that_fails() -> None:
    async with chat_node(stub()) as node:
        (document,) = await node.talk("m=x 1 2", "t=fails", "s=2")
    assert content(document) == "stub chat completion after tool"


async def test_a_model_that_is_nowhere_is_a_document(node: ChatNode) -> None:
    (document,) = await node.talk("m=x", 'p=model="other"', "s=0")
    assert set(document["error"]) == {"message"}


async def test_metrics_are_empty_without_the_flag_or_an_answer(
    node: ChatNode, fake: OpenAiFake
) -> None:
    fake.script(Step(), Step(status=400))
    found = await node.talk("m=x", "x=0", "x=1", "x=1")
    assert found[1] == {}
    assert found[3] == {}
    assert found[5]["total_tokens"] == 18


# ---- sends inside sends


async def test_sends_nest_eight_deep_and_no_deeper(node: ChatNode, fake: OpenAiFake) -> None:
    fake.default = Step(calls=(Call("nests", {}),))
    fake.script(*[fake.default] * 8, *[Step(text="done")] * 8)
    (document,) = await node.talk("m=x", "t=nests", "s=2")
    assert content(document) == "done"
    results = [m for m in fake.requests[8].document["messages"] if m["role"] == "tool"]
    assert [result["content"] for result in results] == ["send gave -5"]
    assert node.usage.calls == 16


# ---- streams, embeddings


async def test_a_stream_gives_each_piece_and_then_the_whole(node: ChatNode) -> None:
    *events, document = await node.talk("m=one two", "r=1")
    assert [event["type"] for event in events[-2:]] == ["delta", "end"]
    text = "".join(event["content"] for event in events[:-1])
    assert text == content(document) == "You said: one two"
    assert events[-1]["finish_reason"] == "stop"
    assert events[-1]["_spear"] == document["_spear"] == {"backend": "fake", "model": "m"}
    assert node.usage.tokens == 18


async def test_a_streams_tool_calls_come_whole(node: ChatNode, fake: OpenAiFake) -> None:
    fake.script(Step(calls=(Call("same", {"a": 1, "b": [2]}),)))
    calls, end, document = await node.talk("m=x", "t=same", "r=0")
    assert calls["tool_calls"][0]["function"]["arguments"] == '{"a":1,"b":[2]}'
    assert calls["tool_calls"] == document["choices"][0]["message"]["tool_calls"]
    assert end["finish_reason"] == "tool_calls"


async def test_a_stream_with_automatic_tools_is_refused(node: ChatNode) -> None:
    assert await node.talk("m=x", "r=2") == ["r -22"]


async def test_embeddings(node: ChatNode, fake: OpenAiFake) -> None:
    document, refused = await node.talk('e={"input":["a","bb"],"model":"m"}', "e={}")
    assert [each["embedding"][0] for each in document["data"]] == [1.0, 2.0]
    assert document["_spear"] == {"backend": "fake", "model": "m"}
    assert refused == "e -22"
    assert fake.requests[0].path == "/v1/embeddings"


# ---- budgets


async def test_a_budget_ends_the_loop_with_an_error(fake: OpenAiFake) -> None:
    fake.default = ENDLESS
    async with chat_node(openai(fake.url)) as node:
        (document,) = await node.talk("m=x", "t=same", "s=2", config={"budget.calls": "3"})
        assert document["error"]["code"] == "budget_spent"
        assert "budget.calls" in document["error"]["message"]
        assert node.usage.calls == len(fake.requests) == 3


async def test_money_needs_a_price(fake: OpenAiFake) -> None:
    priced = Price(model="m", prompt=1000 * 10**6, completion=2000 * 10**6)  # a million tokens
    for prices, asked in ((), 0), ((priced,), 1):
        async with chat_node(openai(fake.url, hosting="remote"), prices=prices) as node:
            (document,) = await node.talk("m=x", "s=0", config={"budget.usd": "1"})
            assert ("error" in document) == (not asked)
            assert len(fake.requests) == asked
            assert node.usage.cost_nano_usd == asked * (11 * 1000 + 7 * 2000)
            if not asked:
                assert document["error"] == {
                    "message": "no backend can answer chat_completions: 'fake' is not available: "
                    "no price of it is known, and the task has a budget of money"
                }


async def test_money_goes_to_who_has_a_price(fake: OpenAiFake) -> None:
    """Another one that has none, and would be asked first, is left out."""
    price = Price(model="m", prompt=1000 * 10**6, completion=2000 * 10**6)
    unpriced = openai(fake.url, "unpriced", hosting="remote", model="other", priority=1)
    priced = openai(fake.url, "priced", hosting="remote")
    async with chat_node(unpriced, priced, prices=(price,)) as node:
        with_money, without = [
            (await node.talk("m=x", "s=0", config=config))[0]["_spear"]["backend"]
            for config in ({"budget.usd": "1"}, {})
        ]
    assert (with_money, without) == ("priced", "unpriced")


async def test_a_task_is_held_to_its_backends(fake: OpenAiFake) -> None:
    async with chat_node(openai(fake.url, priority=9), stub()) as node:
        words = ("m=x", "s=0", 'p=backend="fake"', "s=0")
        first, second = await node.talk(*words, config={"llm.backends": "stub"})
    assert first["_spear"]["backend"] == "stub"
    assert "error" in second
    assert fake.requests == []


async def test_a_backend_that_a_task_names_in_vain_is_in_the_guests_log(fake: OpenAiFake) -> None:
    async with chat_node(openai(fake.url), stub()) as node:
        run = node.start("talker", "m=x", "s=0", "n", config={"llm.backends": "stub,fkae"})
        assert (await run).exit_code == 0
        warned = [line.message for line in run.read_logs() if line.stream != "stdout"]
        assert warned == [
            "the task's llm.backends names 'fkae', which is not there; the nearest one is 'fake'"
        ]

"""What each dialect makes of requests and answers, by examples."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear.errors import ModelGarbled, ModelRefused, ModelUnavailable
from spear.hostcalls.llm.backends.anthropic import AnthropicDialect, AnthropicReader
from spear.hostcalls.llm.backends.ollama import OllamaDialect, OllamaReader
from spear.hostcalls.llm.backends.openai import OpenAiDialect, OpenAiReader
from spear.hostcalls.llm.request import ChatRequest, Delta, EmbedRequest

USER = {"role": "user", "content": "add 3 and 4"}
TOOL = {
    "type": "function",
    "function": {"name": "sum", "description": "adds", "parameters": {"type": "object"}},
}
CALL = {
    "id": "c1", "type": "function", "function": {"name": "sum", "arguments": '{"a":3}'},
}  # fmt: skip
CALL_2 = {**CALL, "id": "c2", "function": {"name": "sub", "arguments": ""}}
TALK = [
    {"role": "system", "content": "be brief"},
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL_2]},
    {"role": "tool", "tool_call_id": "c1", "content": "7"},
    {"role": "tool", "tool_call_id": "c2", "content": "0"},
    {"role": "assistant", "content": "7 and 0"},
    {"role": "developer", "content": "in German"},
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def chat(**values: Any) -> ChatRequest:
    return ChatRequest(messages=values.pop("messages", [USER]), **values)


# OpenAI


@pytest.mark.parametrize(
    ("base_url", "path"),
    [("http://h", "/v1/chat/completions"), ("http://h/v1", "/chat/completions"),
     ("http://h/v1/proxy", "/chat/completions")],
)  # fmt: skip
def test_openai_adds_the_version_where_the_base_url_has_none(base_url: str, path: str) -> None:
    assert OpenAiDialect(base_url).chat_path == path


def test_openai_gets_what_was_asked_and_nothing_that_is_ours() -> None:
    extra = {
        "temperature": 0, "top_p": None, "stream": True, "stream_options": {}, "messages": [],
        "tools": 1, "model": "other",
    }  # fmt: skip
    document = OpenAiDialect("http://h").chat(chat(messages=TALK, tools=[TOOL], extra=extra), "m")
    assert document == {
        "model": "m", "messages": TALK, "tools": [TOOL], "temperature": 0, "top_p": None,
    }  # fmt: skip
    streamed = OpenAiDialect("http://h").streamed(document)
    assert (streamed["stream"], streamed["stream_options"]) == (True, {"include_usage": True})
    assert "tools" not in OpenAiDialect("http://h").chat(chat(), "m")


def test_openai_embeds() -> None:
    request = EmbedRequest(texts=["a"], extra={"dimensions": 3, "input": "x"})
    document = OpenAiDialect("http://h").embed(request, "m")
    assert document == {"model": "m", "input": ["a"], "dimensions": 3}


@pytest.mark.parametrize("answer", [{"choices": [1]}, [], "text", None])
def test_openai_answers_come_back_as_they_are(answer: Any) -> None:
    assert OpenAiDialect("http://h").completion(answer, chat(), 0) is answer


def test_openai_streams_with_oddities_are_understood() -> None:
    reader = OpenAiReader()
    events = (
        b'data: {"id":"i","created":5,"model":"m","choices":[{"delta":{"role":"assistant"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"a","reasoning":"r1"}}]}\n\n'
        b'data: {"choices":[{"index":1,"delta":{"content":"of another choice"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"b","refusal":null}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"reasoning":"r2"},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
        b"data: [DONE]\n\ndata: garbage\n\n"
    )
    assert list(reader.feed(events)) == [Delta(content="a"), Delta(content="b")]
    assert reader.done
    assert reader.body() == {
        "id": "i", "object": "chat.completion", "created": 5, "model": "m",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "ab", "reasoning": "r1r2"},
        }],
        "usage": {"prompt_tokens": 1},
    }  # fmt: skip


def test_openai_tool_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    reader = OpenAiReader()
    for call in (
        '{"id":"a","function":{"name":"f","arguments":"{"}}',
        '{"function":{"arguments":"}"}}',
        '{"id":"b","function":{"name":"g","arguments":"{}"}}',
    ):
        event = f'data: {{"choices":[{{"delta":{{"tool_calls":[{call}]}}}}]}}\n\n'
        assert list(reader.feed(event.encode()))
    assert not list(reader.feed(b"data: [DONE]\n\n"))
    calls = reader.body()["choices"][0]["message"]["tool_calls"]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls] == [
        ("a", "f", "{}"), ("b", "g", "{}"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (OpenAiReader(), b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'),
        (OllamaReader("", 0), b'{"message":{"content":"a"},"done":false}\n'),
        (AnthropicReader(0), b'data: {"type":"content_block_delta","delta":{"type":"text_delta",'
                             b'"text":"a"}}\n\n'),
    ],
)  # fmt: skip
def test_a_stream_that_does_not_come_to_its_end_is_no_answer(reader: Any, data: bytes) -> None:
    assert list(reader.feed(data)) == [Delta(content="a")]
    with pytest.raises(ModelGarbled, match="broke off"):
        reader.body()


@pytest.mark.parametrize(
    ("type", "kind"),
    [("server_error", ModelUnavailable), ("invalid_request_error", ModelRefused)],
)
def test_an_error_in_a_stream_has_a_code(type: str, kind: type[Exception]) -> None:
    event = b'data: {"error":{"message":"no","type":"%s","code":null}}\n\n' % type.encode()
    with pytest.raises(kind, match="no") as caught:
        list(OpenAiReader().feed(event))
    assert caught.value.code == type  # type: ignore[attr-defined]


# Ollama


def test_ollama_gets_arguments_as_objects_and_results_by_name() -> None:
    assert OllamaDialect().chat(chat(messages=TALK, tools=[TOOL]), "m") == {
        "model": "m",
        "stream": False,
        "tools": [TOOL],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "add 3 and 4"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"function": {"name": "sum", "arguments": {"a": 3}}},
                    {"function": {"name": "sub", "arguments": {}}},
                ],
            },
            {"role": "tool", "content": "7", "tool_name": "sum"},
            {"role": "tool", "content": "0", "tool_name": "sub"},
            {"role": "assistant", "content": "7 and 0"},
            {"role": "system", "content": "in German"},
        ],
    }


def test_ollama_gets_parameters_by_its_own_names() -> None:
    extra = {
        "temperature": 0.5, "max_tokens": 9, "options": {"num_ctx": 99}, "keep_alive": "5m",
        "response_format": SCHEMA, "tool_choice": "auto", "stream": True,
    }  # fmt: skip
    document = OllamaDialect().chat(chat(extra=extra), "m")
    assert document["options"] == {"num_ctx": 99, "temperature": 0.5, "num_predict": 9}
    assert (document["format"], document["keep_alive"]) == ({"type": "object"}, "5m")
    assert document.keys() == {"model", "messages", "stream", "options", "format", "keep_alive"}
    json = OllamaDialect().chat(chat(extra={"response_format": {"type": "json_object"}}), "m")
    assert json["format"] == "json"


def test_ollama_answers_become_completions() -> None:
    answer = {
        "model": "m",
        "message": {
            "role": "assistant", "content": "",
            "tool_calls": [{"function": {"name": "sum", "arguments": {"a": 3}}}, {"id": "own"}],
        },
        "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 6,
    }  # fmt: skip
    body = OllamaDialect().completion(answer, chat(messages=[USER, USER]), 9)
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    first, second = choice["message"]["tool_calls"]
    assert (first["id"], second["id"]) == ("call_2_0", "own")
    assert first["function"] == {"name": "sum", "arguments": '{"a":3}'}
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


def test_arguments_that_are_json_already_reach_the_tool_as_they_are() -> None:
    given = {"function": {"name": "sum", "arguments": '{"a":1}'}}
    answer = {"message": {"content": "", "tool_calls": [given]}, "done": True}
    body = OllamaDialect().completion(answer, chat(), 9)
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["function"] == given["function"]


def test_the_last_line_of_an_ollama_stream_needs_no_end() -> None:
    reader = OllamaReader("", 0)
    line = b'{"model":"m","message":{"content":"a"},"done":true,"done_reason":"length"}'
    assert list(reader.feed(line)) == []
    assert reader.body()["choices"][0] == {
        "index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "a"},
    }  # fmt: skip


# Anthropic


def test_a_streamed_call_without_arguments_has_an_empty_object_as_a_whole_one_has() -> None:
    reader = AnthropicDialect("http://h").reader(chat(), 0)
    block = {"type": "tool_use", "id": "t1", "name": "now", "input": {}}
    for event in (
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ):
        list(reader.feed(b"data: " + msgspec.json.encode(event) + b"\n\n"))
    (call,) = reader.body()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "now", "arguments": "{}"}


def test_anthropic_gets_turns_blocks_and_the_system_apart() -> None:
    document = AnthropicDialect("http://h").chat(chat(messages=TALK, tools=[TOOL]), "m")
    assert document == {
        "model": "m",
        "max_tokens": 4096,
        "system": "be brief\n\nin German",
        "tools": [{"name": "sum", "description": "adds", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "add 3 and 4"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "c1", "name": "sum", "input": {"a": 3}},
                    {"type": "tool_use", "id": "c2", "name": "sub", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "7"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "0"},
                ],
            },
            {"role": "assistant", "content": "7 and 0"},
        ],
    }


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_tokens": 6}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"temperature": 0.1, "top_k": 3}, {"temperature": 0.1, "top_k": 3}),
        ({"tool_choice": "auto"}, {}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        ({"tool_choice": {"type": "function", "function": {"name": "sum"}}},
         {"tool_choice": {"type": "tool", "name": "sum"}}),
        ({"parallel_tool_calls": False},
         {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ({"response_format": SCHEMA},
         {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"n": 1, "seed": 1, "stream": True, "logprobs": True}, {}),
    ],
)  # fmt: skip
def test_anthropic_gets_parameters_by_its_own_names(extra: Any, found: Any) -> None:
    dialect = AnthropicDialect("http://h")
    plain = dialect.chat(chat(tools=[TOOL]), "m")
    assert dialect.chat(chat(tools=[TOOL], extra=extra), "m") == {**plain, **found}


@pytest.mark.parametrize(
    "request_",
    [
        chat(extra={"response_format": {"type": "json_object"}}),
        chat(messages=[{"role": "critic", "content": "x"}]),
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        chat(messages=[{"role": "assistant", "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "[1]"}}]}]),
        chat(messages=[{"role": "assistant", "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "{"}}]}]),
    ],
)  # fmt: skip
def test_what_anthropic_has_no_word_for_is_refused(request_: ChatRequest) -> None:
    with pytest.raises(ModelRefused):
        AnthropicDialect("http://h").chat(request_, "m")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
     ("tool_use", "tool_calls"), ("refusal", "content_filter"), (None, "stop")],
)  # fmt: skip
def test_anthropic_answers_become_completions(reason: str | None, finish: str) -> None:
    answer = {
        "id": "i", "model": "m", "stop_reason": reason,
        "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "t", "name": "sum", "input": {"a": 3}},
        ],
        "usage": {
            "input_tokens": 1, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 300,
            "output_tokens": 4,
        },
    }  # fmt: skip
    body = AnthropicDialect("http://h").completion(answer, chat(), 9)
    (choice,) = body["choices"]
    assert choice["finish_reason"] == finish
    assert choice["message"]["content"] == "ab"
    assert choice["message"]["tool_calls"] == [
        {"id": "t", "type": "function", "function": {"name": "sum", "arguments": '{"a":3}'}}
    ]
    assert body["usage"] == {"prompt_tokens": 321, "completion_tokens": 4, "total_tokens": 325}


@pytest.mark.parametrize("dialect", [OllamaDialect(), AnthropicDialect("http://h")])
@pytest.mark.parametrize("answer", [[], "x", None, {}, {"message": 1, "content": 1}])
def test_answers_that_are_none_are_garbled(dialect: Any, answer: Any) -> None:
    with pytest.raises(ModelGarbled):
        dialect.completion(answer, chat(), 0)


def test_openai_offers_the_short_way_between_events_once_the_answer_has_a_name() -> None:
    outlet, reader = Outlet(Channel(), [], lambda _: None, 16), OpenAiReader()
    nameless, named = (
        b'data: {"id":"%s","choices":[{"delta":{"content":"a"}}]}\n\n' % id for id in (b"", b"c")
    )
    for data, offered in (
        (b"", False), (nameless, False), (named, True), (b": no", False), (b"te\n\n", True),
        (b"event: y\n", False), (b"\n", True),
    ):  # fmt: skip
        list(reader.feed(data))
        assert (reader.straight(outlet, 1) is not None) == offered, data


def test_what_came_by_the_short_way_stands_where_it_came() -> None:
    outlet, reader = Outlet(Channel(), [], lambda _: None, 16), OpenAiReader()
    piece = b'data: {"id":"c","choices":[{"delta":{"content":"%s"}}]}\n\n'
    for text in (b"1", b"3"):
        list(reader.feed(piece % text))
        short = reader.straight(outlet, 1000)
        assert short is not None
        event = piece % b"%d" % (int(text) + 1)
        assert short.take(b"%x\r\n%s\r\n" % (len(event), event))
    list(reader.feed(b"data: [DONE]\n\n"))
    assert reader.body()["choices"][0]["message"]["content"] == "1234"

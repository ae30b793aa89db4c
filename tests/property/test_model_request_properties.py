"""Whatever a guest writes into a session, and whatever a model's side answers, each backend says so
in its own shapes or refuses it: nothing else is ever raised, and a loop goes on or ends.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear.errors import ModelError
from spear.hostcalls.llm.backends.anthropic import AnthropicDialect
from spear.hostcalls.llm.backends.ollama import OllamaDialect
from spear.hostcalls.llm.backends.openai import OpenAiDialect
from spear.hostcalls.llm.backends.stub import StubBackend
from spear.hostcalls.llm.chat.loop import ToolLoop
from spear.hostcalls.llm.chat.params import Setting
from spear.hostcalls.llm.chat.session import Room, Session
from spear.hostcalls.llm.request import ChatRequest, Delta, Reply
from spear.records.models import BackendSpec
from spear.records.usage import Usage

DIALECTS = {
    "openai": OpenAiDialect("http://h/v1"), "ollama": OllamaDialect(),
    "anthropic": AnthropicDialect("http://h"),
}  # fmt: skip
KEYS = st.sampled_from([
    "function", "name", "parameters", "properties", "type", "description", "content", "text", "id",
    "arguments", "schema", "json_schema", "tool_calls", "role",
])  # fmt: skip
WORDS = st.sampled_from(["", "f", "integer", "object", "json_schema", "none", "7 and 5", "{}", "["])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
FUNCTIONS = st.fixed_dictionaries({}, optional={"name": VALUES, "parameters": VALUES}) | VALUES
TOOLS = VALUES | FUNCTIONS | FUNCTIONS.map(lambda it: {"type": "function", "function": it})
EXTRA = st.sampled_from([
    "response_format", "tool_choice", "max_tokens", "max_completion_tokens", "temperature", "stop",
    "n", "seed", "stream_options", "options", "system", "think",
])  # fmt: skip
PARAMETERS = st.dictionaries(EXTRA, VALUES, max_size=3)
ROLES = st.sampled_from(["user", "system", "assistant", "tool", "developer", "", "other"])
CALLS = st.lists(
    st.fixed_dictionaries({}, optional={"id": VALUES, "type": VALUES, "function": FUNCTIONS}),
    max_size=2,
)  # fmt: skip
MESSAGES = st.fixed_dictionaries({"content": VALUES}, optional={"tool_calls": CALLS | VALUES})


@st.composite
def requests(draw: Any) -> ChatRequest:
    """Of a session that was filled by the calls of a guest and by a model's answers."""
    session = Session(Room())
    session.write("user", draw(WORDS))
    for role in draw(st.lists(ROLES, max_size=3)):
        session.write(role, draw(WORDS))
    for tool in draw(st.lists(TOOLS, max_size=2)):
        session.tool(1, msgspec.json.encode(tool))
    for key, value in draw(PARAMETERS).items():
        session.set(Setting(key, value))
    for message in draw(st.lists(MESSAGES, max_size=2)):
        session.answer({"role": "assistant", **message})
        if draw(st.booleans()):
            session.tool_result(draw(WORDS), draw(WORDS))
    extra = session.params.extra()
    return ChatRequest(messages=session.messages, tools=session.tools, extra=extra, model="m")


@pytest.mark.parametrize("api", DIALECTS)
@settings(max_examples=examples(80), deadline=None)
@given(requests())
def test_any_session_is_said_or_refused(api: str, request: ChatRequest) -> None:
    dialect = DIALECTS[api]
    assert isinstance(request.features, tuple)
    try:
        document = dialect.chat(request, "m")
        assert document["model"] == "m"
        assert msgspec.json.encode(dialect.streamed(document))
    except ModelError as error:
        assert str(error)


@settings(max_examples=examples(80), deadline=None)
@given(requests())
def test_the_stub_answers_any_session(request: ChatRequest) -> None:
    stub = StubBackend(BackendSpec(name="stub", kind="stub", hosting="local"))
    pieces: list[Delta] = []
    whole = asyncio.run(stub.chat(request, "m"))
    assert asyncio.run(stub.stream(request, "m", pieces.append)) == whole
    assert msgspec.json.encode(whole.body)


ANSWERS = st.one_of(
    VALUES,
    st.fixed_dictionaries({"choices": VALUES | st.lists(st.fixed_dictionaries(
        {"message": MESSAGES | VALUES}), max_size=2)}),
    st.fixed_dictionaries({"message": MESSAGES | VALUES, "done": st.booleans()}),
    st.fixed_dictionaries({"content": VALUES | st.lists(VALUES, max_size=2), "usage": VALUES}),
)  # fmt: skip


@pytest.mark.parametrize("api", DIALECTS)
@settings(max_examples=examples(80), deadline=None)
@given(ANSWERS)
def test_any_answer_is_understood_or_refused_and_the_loop_goes_on(api: str, answer: Any) -> None:
    request = ChatRequest(messages=[{"role": "user", "content": "x"}], model="m")
    try:
        body = DIALECTS[api].completion(answer, request, 0)
    except ModelError as error:
        assert str(error)
        return
    session = Session(Room())
    session.write("user", "x")
    loop = ToolLoop(session)
    loop.begin()
    loop.answered(Reply(body=body, backend="b", model="m", usage=Usage()))
    assert msgspec.json.encode(session.messages)

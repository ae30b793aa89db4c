"""The loop that is told what happened does what the ABI's own text of it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spear._core.drafts import Room
from spear.hostcalls.llm.chat import loop as loops
from spear.hostcalls.llm.chat.loop import Ask, CallTool, Done, Step, ToolLoop
from spear.hostcalls.llm.chat.params import Setting
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.request import Reply
from spear.records.usage import Usage
from tests.reference import tool_loop

NAMES = ("sum", "fails", "mcp.fs.read", "mcp__ZnM__cg", "nobody", "mcp")
OFFSETS = {"sum": 1, "fails": 2, "mcp.fs.read": 3}
ODD: list[Any] = [None, {}, 7, {"id": "x", "type": "function"},
                  {"id": 1, "type": "function", "function": {"name": "sum", "arguments": ""}},
                  {"id": "x", "type": "function", "function": {"name": "sum", "arguments": {}}},
                  {"id": "x", "function": {"name": "sum", "arguments": ""}}]  # fmt: skip

calls = st.builds(
    lambda name, number: {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": str(number)},
    },
    st.sampled_from([*("sum",) * 8, *NAMES]),
    st.integers(0, 9),
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["assistant", "model", None]),
        "content": st.sampled_from(["done", None, ""]),
        "tool_calls": st.lists(calls, max_size=4)
        | st.lists(calls | st.sampled_from(ODD), max_size=3)
        | st.sampled_from([None, {}, "x"]),
        "function_call": st.just({"name": "sum", "arguments": "1"}),
    },
)
bodies = st.one_of(
    st.builds(lambda first, rest: {"choices": [{"message": first}, *rest]}, messages,
              st.lists(st.builds(lambda m: {"message": m}, messages), max_size=1)),
    st.sampled_from([None, [], {}, {"choices": []}, {"choices": [{"message": None}]}]),
)  # fmt: skip
scripts = st.lists(bodies, min_size=1, max_size=12)
limits = st.fixed_dictionaries(
    {}, optional={"max_iterations": st.integers(0, 4), "max_total_tool_calls": st.integers(0, 6)}
)


def tool(offset: int, arguments: str) -> tuple[int, str]:
    return (-5, "") if offset == 2 else (0, f"{offset}:{arguments}")


def by_loop(
    script: list[Any], given_limits: dict[str, int]
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """What it gave, what the session holds then, and what was asked and called, in order."""
    session = Session(Room())
    session.write("user", "go")
    session.offsets.update(OFFSETS)
    for key, value in given_limits.items():
        session.set(Setting(key, value))
    left, happened = list(script), list[Any]()
    loop = ToolLoop(session)
    step: Step = loop.begin()
    while not isinstance(step, Done):
        if isinstance(step, Ask):
            happened.append(list(session.messages))
            body = left.pop(0) if left else {}
            step = loop.answered(Reply(body=body, backend="b", model="m", usage=Usage()))
        else:
            assert isinstance(step, CallTool)
            happened.append((step.offset, step.arguments))
            step = loop.tool_ended(*tool(step.offset, step.arguments))
    found = json.loads(step.document)
    assert step.ok == ("error" not in found)
    found.pop("_spear", None)
    return found, session.messages, happened


def by_text(
    script: list[Any], given_limits: dict[str, int]
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    said: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    left, happened = list(script), list[Any]()

    def ask(messages: list[dict[str, Any]]) -> Any:
        happened.append(messages)
        return left.pop(0) if left else {}

    def call(offset: int, arguments: str) -> tuple[int, str]:
        happened.append((offset, arguments))
        return tool(offset, arguments)

    found = tool_loop.send(said, OFFSETS, ask, call, **given_limits)
    return found if isinstance(found, dict) else {"result": found}, said, happened


@settings(deadline=None)
@given(scripts, limits)
def test_the_loop_does_what_the_abi_says(script: list[Any], given_limits: dict[str, int]) -> None:
    assert by_loop(script, given_limits) == by_text(script, given_limits)


ENDLESS = [
    {"choices": [{"message": {"content": None, "tool_calls": [
        {"id": f"c{n}", "type": "function", "function": {"name": "sum", "arguments": str(n)}}
        for n in range(3)
    ]}}]}
] * 40  # fmt: skip


@pytest.mark.parametrize(
    ("given_limits", "message", "tools"),
    [
        ({}, "max_iterations", 24),
        ({"max_iterations": 0}, "max_iterations", 0),
        ({"max_iterations": 2}, "max_iterations", 6),
        ({"max_iterations": 128}, "max_total_tool_calls", 32),
        ({"max_total_tool_calls": 4}, "max_total_tool_calls", 4),
        ({"max_total_tool_calls": 0}, "max_total_tool_calls", 0),
    ],
)
def test_a_loop_without_end_ends_at_its_limits(
    given_limits: dict[str, int], message: str, tools: int
) -> None:
    found, said, happened = by_loop(ENDLESS, given_limits)
    assert found == {"error": {"code": "tool_call_limit", "message": f"exceeded {message}"}}
    assert sum(isinstance(each, tuple) for each in happened) == tools
    assert [found, said, happened] == list(by_text(ENDLESS, given_limits))


def test_a_planted_mistake_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An assistant message that is not appended before its tools run."""
    monkeypatch.setattr(loops, "_kept", lambda message, with_calls: {"role": "assistant"})
    assert by_loop(ENDLESS, {}) != by_text(ENDLESS, {})

from __future__ import annotations

import json
from errno import EACCES, EINVAL
from typing import Any

import pytest

from spear.hostcalls.llm.chat.params import Params, Setting, mcp_status, read_setting


def params(**values: Any) -> Params:
    made = Params()
    for key, value in values.items():
        made.set(Setting(key.replace("__", "."), value))
    return made


@pytest.mark.parametrize(
    "text",
    ["", "no", "[]", "{}", '{"key":"a"}', '{"value":1}', '{"key":"","value":1}',
     '{"key":7,"value":1}', '{"key":"a","value":NaN}', "[" * 100_000, '{"key":"a","value":1} 2'],
)  # fmt: skip
def test_what_is_no_setting_is_none(text: str) -> None:
    assert read_setting(text.encode()) is None


@pytest.mark.parametrize("value", [None, 1, -2.5, "x", [1, {"a": None}], {"b": []}, True])
def test_a_value_may_be_any_json(value: Any) -> None:
    assert read_setting(json.dumps({"key": "k", "value": value}).encode()) == ("k", value)


def test_a_setting_is_read_lossily() -> None:
    assert read_setting(b'{"key":"k","value":"a\xff"}') == ("k", "a�")


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("mcp.enabled", True, -EACCES),
        ("mcp.enabled", False, 0),
        ("mcp.enabled", 1, -EINVAL),
        ("mcp.enabled", "true", -EINVAL),
        ("mcp.enabled", None, -EINVAL),
        ("mcp.server_ids", "fs", -EINVAL),
        ("mcp.server_ids", {"0": "fs"}, -EINVAL),
        ("mcp.server_ids", [1], -EINVAL),
        ("mcp.server_ids", ["fs"], -EACCES),
        ("mcp.server_ids", [], 0),
        ("mcp.tool_allowlist", ["read_*"], 0),
        ("mcp.tool_allowlist", "read_*", -EINVAL),
        ("mcp.tool_denylist", ["w?"], 0),
        ("mcp.tool_denylist", [None], -EINVAL),
        ("mcp.task_policy", True, -EACCES),
        ("mcp.task_", "anything", -EACCES),
        ("temperature", 0.5, 0),
    ],
)
def test_what_the_default_policy_says_to_mcp(key: str, value: Any, status: int) -> None:
    assert mcp_status(Setting(key, value)) == status


def test_defaults() -> None:
    made = Params()
    assert (made.model, made.backend, made.timeout_ms, made.arena) == ("", "", 0, (0, 0))
    assert (made.tool_output_bytes_max, made.iterations_max, made.tool_calls_max) == (65536, 8, 32)
    assert made.extra() == {}


def test_counts_have_caps() -> None:
    made = params(
        max_tool_output_bytes=1 << 40, max_iterations=1 << 40, max_total_tool_calls=1 << 40,
        timeout_ms=(1 << 64) - 1,
    )  # fmt: skip
    assert made.tool_output_bytes_max == 1 << 20
    assert (made.iterations_max, made.tool_calls_max) == (128, 10_000)
    assert made.timeout_ms == 24 * 3600 * 1000
    assert params(max_iterations=0, max_tool_calls=0).iterations_max == 0


def test_the_alias_and_the_name_are_one_key_and_the_last_counts() -> None:
    assert params(max_tool_calls=3, max_total_tool_calls=4).tool_calls_max == 4
    assert params(max_total_tool_calls=4, max_tool_calls=3).tool_calls_max == 3


@pytest.mark.parametrize("address", [-(1 << 70), -1, 0, 4096, (1 << 31) - 1, 1 << 31, 1 << 70])
def test_an_arena_is_never_an_address_that_the_abi_has_not(address: int) -> None:
    at, size = params(tool_arena_ptr=address, tool_arena_len=address).arena
    assert at == size == max(-1, min(address, 1 << 31))


@pytest.mark.parametrize(
    ("key", "good", "value"),
    [("model", "m", 7), ("backend", "b", []), ("timeout_ms", 5, -1), ("timeout_ms", 5, 1.0),
     ("timeout_ms", 5, True), ("timeout_ms", 5, "5"), ("timeout_ms", 5, 1 << 64),
     ("max_iterations", 5, {}), ("tool_arena_ptr", 5, "0")],
)  # fmt: skip
def test_a_value_of_the_wrong_type_counts_as_not_set_and_is_told(
    key: str, good: Any, value: Any
) -> None:
    made = params(**{key: good})
    assert key in made.set(Setting(key, value))
    fresh = Params()
    assert (made.model, made.backend, made.timeout_ms, made.arena, made.iterations_max) == (
        fresh.model, fresh.backend, fresh.timeout_ms, fresh.arena, fresh.iterations_max,
    )  # fmt: skip


def test_null_takes_a_known_key_back_without_a_word() -> None:
    made = params(model="m")
    assert made.set(Setting("model", None)) == ""
    assert made.model == ""


def test_all_else_goes_upstream_as_it_came_and_what_is_ours_never_does() -> None:
    rest = {"temperature": 0.5, "top_p": None, "stop": ["a"], "response_format": {"type": "x"}}
    ours = {
        "messages": [], "tools": [], "stream": True, "model": "m", "backend": "b",
        "timeout_ms": 1, "tool_arena_ptr": 1, "tool_arena_len": 1, "max_tool_output_bytes": 1,
        "max_iterations": 1, "max_total_tool_calls": 1, "max_tool_calls": 1, "mcp__enabled": False,
        "mcp__server_ids": [], "mcp__tool_allowlist": [], "mcp__tool_denylist": [],
    }  # fmt: skip
    assert params(**rest, **ours).extra() == rest

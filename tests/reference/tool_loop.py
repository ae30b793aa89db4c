"""The AUTO_TOOL_CALL loop as the guest ABI writes it (section 6), line by line.

The rule: a plain function that asks and calls as it goes; the oracle of the loop that is told what
happened. `ask` gives the body of an answer, `tool` the status and output of a guest's function.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Ask = Callable[[list[dict[str, Any]]], Any]
Tool = Callable[[int, str], tuple[int, str]]


def send(
    messages: list[dict[str, Any]], offsets: Mapping[str, int], ask: Ask, tool: Tool, *,
    max_iterations: int = 8, max_total_tool_calls: int = 32,
) -> dict[str, Any]:  # fmt: skip
    """Gives the answer's body or the error; `messages` grow as the session's do."""
    iteration = calls = 0
    while True:
        if iteration >= max_iterations:
            return _error("tool_call_limit", "exceeded max_iterations")
        if calls > max_total_tool_calls:
            return _error("tool_call_limit", "exceeded max_total_tool_calls")
        body = ask(list(messages))
        message = _message(body)
        tool_calls = message.get("tool_calls") if message else None
        if not _are_calls(tool_calls):
            if message:
                messages.append(_assistant(message))
            return body
        assert message is not None
        assert tool_calls is not None
        messages.append({**_assistant(message), "tool_calls": tool_calls})
        for call in tool_calls:
            if calls >= max_total_tool_calls:
                return _error("tool_call_limit", "exceeded max_total_tool_calls")
            calls += 1
            name = call["function"]["name"]
            if name in offsets:
                status, output = tool(offsets[name], call["function"]["arguments"])
                if status != 0:
                    output = _told("tool_exec_failed", f"tool rc: {status}")
            elif name.startswith(("mcp.", "mcp__")):
                output = _told("mcp_tool_failed", f"{name}: MCP is not enabled for this session")
            else:
                output = _told("unknown_tool", f"unknown tool: {name}")
            messages.append({"role": "tool", "content": output, "tool_call_id": call["id"]})
        iteration += 1


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _told(code: str, message: str) -> str:
    return json.dumps(_error(code, message), separators=(",", ":"))


def _message(body: Any) -> dict[str, Any] | None:
    try:
        message = body["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        return None
    return message if isinstance(message, dict) else None


def _are_calls(calls: Any) -> bool:
    """Whether it is a list of one or more, all in the modern form."""
    if not isinstance(calls, list) or not calls:
        return False
    try:
        texts = [
            text
            for call in calls
            for text in (call["id"], call["type"], call["function"]["name"],
                         call["function"]["arguments"])
        ]  # fmt: skip
    except (KeyError, TypeError):
        return False
    return all(isinstance(text, str) for text in texts)


def _assistant(message: dict[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    return {
        "role": role if isinstance(role, str) else "assistant",
        "content": message.get("content"),
    }

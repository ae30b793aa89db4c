"""A fake of Anthropic's API: messages, whole and streamed, models. It refuses what the API does:
turns without max_tokens or version, tool results that answer no call."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.openai import answer_to, words
from tests.fakes.server import Fake, Seen
from tests.fakes.step import Step


class AnthropicFake(Fake):
    key_header, key_scheme = "x-api-key", ""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/messages", self.chat), web.get("/v1/models", self.look)]

    def complaint(self, seen: Seen) -> str:
        if "anthropic-version" not in seen.headers:
            return "anthropic-version: header is required"
        if not isinstance(seen.document.get("max_tokens"), int):
            return "max_tokens: Field required"
        return super().complaint(seen) or _turns_complaint(seen.document["messages"])

    def whole(self, step: Step, document: dict[str, Any]) -> Any:
        step = _answer(step, document)
        content: list[dict[str, Any]] = [{"type": "text", "text": step.text}] if step.text else []
        for number, call in enumerate(step.calls or ()):
            id = call.id or f"toolu_fake_{number}"
            content.append(
                {"type": "tool_use", "id": id, "name": call.name, "input": call.arguments}
            )
        return {
            "id": "msg_fake",
            "type": "message",
            "role": "assistant",
            "model": document["model"],
            "content": content,
            "stop_reason": _finish(step),
            "stop_sequence": None,
            "usage": {"input_tokens": step.prompt_tokens, "output_tokens": step.completion_tokens},
        }

    def pieces(self, step: Step, document: dict[str, Any]) -> list[bytes]:
        whole = self.whole(step, document)
        start = {**whole, "content": [], "stop_reason": None}
        start["usage"] = {**whole["usage"], "output_tokens": 1}
        found = [_event("message_start", message=start), _event("ping")]
        for index, block in enumerate(whole["content"]):
            if block["type"] == "text":
                empty = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": word} for word in words(block["text"])]
            else:
                empty = {**block, "input": {}}
                text = msgspec.json.encode(block["input"]).decode()
                halves = (text[: len(text) // 2], text[len(text) // 2 :])
                deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
            found.append(_event("content_block_start", index=index, content_block=empty))
            found += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
            found.append(_event("content_block_stop", index=index))
        if step.error:
            return [
                *found,
                _event("error", error={"type": "overloaded_error", "message": step.error}),
            ]
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        usage = {"output_tokens": step.completion_tokens}
        found.append(_event("message_delta", delta=delta, usage=usage))
        return [*found, _event("message_stop")]

    def error(self, status: int, message: str) -> Any:
        kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        fallback = "api_error" if status >= 500 else "invalid_request_error"
        return {
            "type": "error", "error": {"type": kind.get(status, fallback), "message": message},
        }  # fmt: skip


def _event(type: str, **values: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (
        type.encode(), msgspec.json.encode({"type": type, **values}),
    )  # fmt: skip


def _turns_complaint(turns: list[dict[str, Any]]) -> str:
    """Every call is answered in the next turn, all of them, and nothing else is."""
    asked: set[str] = set()
    for turn in turns:
        if turn["role"] not in ("user", "assistant"):
            return f"messages: Unexpected role {turn['role']!r}"
        blocks = turn["content"] if isinstance(turn["content"], list) else []
        answered = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        if answered != asked:
            return "messages: tool_use and tool_result blocks do not match"
        asked = {block["id"] for block in blocks if block["type"] == "tool_use"}
    return ""


def _answer(step: Step, document: dict[str, Any]) -> Step:
    """As the OpenAI fake answers, of the messages in its form."""
    messages = []
    for turn in document["messages"]:
        content = turn["content"]
        results = isinstance(content, list) and any(b["type"] == "tool_result" for b in content)
        messages.append({"role": "tool" if results else turn["role"], "content": content})
    tools = [
        {"function": {"name": tool["name"], "parameters": tool["input_schema"]}}
        for tool in document.get("tools", [])
    ]
    return answer_to(step, messages, tools)


def _finish(step: Step) -> str:
    return step.finish or ("tool_use" if step.calls else "end_turn")

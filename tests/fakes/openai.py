"""A fake of OpenAI's API: chat completions, whole and streamed, embeddings, models.

The rule: without a script it calls the first tool it is offered, once, with the numbers of the last
user message, and otherwise repeats that message.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.server import Fake, numbers_in
from tests.fakes.step import Call, Step

ANSWER = "You said: "


def answer_to(step: Step, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Step:
    """The step with its text or calls filled in."""
    if step.text is not None or step.calls is not None:
        return step
    said = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    said = said if isinstance(said, str) else ""
    if tools and not any(message["role"] == "tool" for message in messages):
        function = tools[0]["function"]
        names = function.get("parameters", {}).get("properties", {})
        arguments = dict(zip(names, numbers_in(said), strict=False))
        return msgspec.structs.replace(step, calls=(Call(function["name"], arguments),))
    return msgspec.structs.replace(step, text=(ANSWER + said) * step.repeat)


def words(text: str) -> list[str]:
    """Pieces of a stream: they make the text again."""
    return [f"{' ' * bool(number)}{word}" for number, word in enumerate(text.split(" "))]


def event(document: Any) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


class OpenAiFake(Fake):
    base_path = "/v1"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/embeddings", self.embed),
            web.get("/v1/models", self.look),
        ]

    def whole(self, step: Step, document: dict[str, Any]) -> Any:
        step = answer_to(step, document["messages"], document.get("tools", []))
        message: dict[str, Any] = {"role": "assistant", "content": step.text, "refusal": None}
        if step.calls:
            message["tool_calls"] = [_call(call, number) for number, call in enumerate(step.calls)]
        return {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": document["model"],
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(step)}
            ],
            "usage": _usage(step),
            "system_fingerprint": "fp_fake",
        }

    def pieces(self, step: Step, document: dict[str, Any]) -> list[bytes]:
        step = answer_to(step, document["messages"], document.get("tools", []))
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in words(step.text or "") if word]
        for number, call in enumerate(step.calls or ()):
            whole = _call(call, number)
            arguments = whole["function"]["arguments"]
            half = len(arguments) // 2
            first = {**whole["function"], "arguments": arguments[:half]}
            deltas.append({"tool_calls": [{"index": number, **whole, "function": first}]})
            rest = {"index": number, "function": {"arguments": arguments[half:]}}
            deltas.append({"tool_calls": [rest]})
        found = [event(_chunk(document, delta, None)) for delta in deltas]
        if step.error:
            return [*found, event(self.error(500, step.error))]
        found.append(event(_chunk(document, {}, _finish(step))))
        if document.get("stream_options", {}).get("include_usage"):
            found.append(
                event({**_chunk(document, {}, None), "choices": [], "usage": _usage(step)})
            )
        return [*found, b"data: [DONE]\n\n"]

    def vectors(self, step: Step, document: dict[str, Any]) -> Any:
        texts = document["input"]
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": n, "embedding": [float(len(text)), 1.0]}
                for n, text in enumerate([texts] if isinstance(texts, str) else texts)
            ],
            "model": document["model"],
            "usage": {"prompt_tokens": step.prompt_tokens, "total_tokens": step.prompt_tokens},
        }

    def error(self, status: int, message: str) -> Any:
        type, code = ("server_error", None) if status >= 500 else ("invalid_request_error", "bad")
        if status == 429:
            type, code = "requests", "rate_limit_exceeded"
        return {"error": {"message": message, "type": type, "param": None, "code": code}}


def _chunk(document: dict[str, Any], delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": document["model"],
        "system_fingerprint": "fp_fake",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": None,
    }


def _call(call: Call, number: int) -> dict[str, Any]:
    return {
        "id": call.id or f"call_fake_{number}",
        "type": "function",
        "function": {
            "name": call.name, "arguments": msgspec.json.encode(call.arguments).decode(),
        },
    }  # fmt: skip


def _finish(step: Step) -> str:
    return step.finish or ("tool_calls" if step.calls else "stop")


def _usage(step: Step) -> dict[str, int]:
    return {
        "prompt_tokens": step.prompt_tokens,
        "completion_tokens": step.completion_tokens,
        "total_tokens": step.prompt_tokens + step.completion_tokens,
    }

"""Ollama's own API: /api/chat, a JSON line a piece, and /api/embed.

The rule: parameters that OpenAI's API has and Ollama calls otherwise are translated, all others go
to the top level as they are. Ollama's tool calls have arguments as objects, and their results the
tool's name instead of the call's id.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spear.errors import ModelGarbled
from spear.hostcalls.llm.backends.answers import (
    at,
    broken,
    count_at,
    decode,
    object_of,
    objects_at,
    text_at,
)
from spear.hostcalls.llm.backends.assembly import Assembly, completion, usage_document
from spear.hostcalls.llm.backends.dialect import credential_header
from spear.hostcalls.llm.backends.messages import arguments_of, plain_text
from spear.hostcalls.llm.http.lines import Lines
from spear.hostcalls.llm.request import Delta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear._core.outlets import Outlet
    from spear.hostcalls.llm.request import ChatRequest, EmbedRequest

_OURS = frozenset(("model", "messages", "tools", "stream", "input", "options", "response_format"))
_OPTIONS = {
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
}
_NOT_THERE = frozenset(("tool_choice", "parallel_tool_calls", "stream_options"))


def headers_for(credential: str) -> dict[str, str]:
    """Ollama has none itself; what stands before it may want one."""
    return credential_header("authorization", "Bearer ", credential)


class OllamaDialect:
    chat_path, embed_path, probe_path = "/api/chat", "/api/embed", "/api/version"
    stream_type = "application/x-ndjson"

    def chat(self, request: ChatRequest, model: str) -> dict[str, Any]:
        document: dict[str, Any] = {
            "model": model, "messages": _messages(request.messages), "stream": False,
        }  # fmt: skip
        if request.tools:
            document["tools"] = request.tools
        return document | _parameters(request.extra)

    def streamed(self, document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "stream": True}

    def completion(self, answer: Any, request: ChatRequest, now_s: int) -> dict[str, Any]:
        answer = object_of(answer)
        given = answer.get("message")
        if not isinstance(given, dict):
            raise ModelGarbled("the answer has no message")
        message: dict[str, Any] = {"role": "assistant", "content": text_at(given, "content")}
        calls = _calls(given, f"call_{len(request.messages)}_", 0)
        if calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = calls
        return completion(
            message, _finish_reason(answer, bool(calls)),
            id=_id(now_s), model=text_at(answer, "model"), created=now_s, usage=_usage(answer),
        )  # fmt: skip

    def reader(self, request: ChatRequest, now_s: int) -> OllamaReader:
        return OllamaReader(f"call_{len(request.messages)}_", now_s)

    def embed(self, request: EmbedRequest, model: str) -> dict[str, Any]:
        extra = {k: v for k, v in request.extra.items() if k not in ("model", "input")}
        extra.pop("encoding_format", None)
        return {**extra, "model": model, "input": request.texts}

    def embeddings(self, answer: Any) -> dict[str, Any]:
        vectors = object_of(answer).get("embeddings")
        if not isinstance(vectors, list):
            raise ModelGarbled("the answer has no embeddings")
        tokens = count_at(answer, "prompt_eval_count")
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "model": text_at(answer, "model"),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


class OllamaReader:
    """Of the lines of a chat. `call_prefix` makes the ids of tool calls that have none."""

    def __init__(self, call_prefix: str, now_s: int) -> None:
        self.done = False
        self._lines, self._answer = Lines(any_end=False), Assembly()
        self._answer.id, self._answer.created = _id(now_s), now_s
        self._call_prefix, self._calls = call_prefix, 0

    def straight(self, outlet: Outlet, bytes_max: int) -> None:
        """There is no such way yet."""

    def feed(self, data: bytes) -> Iterator[Delta]:
        for line in self._lines.feed(data):
            delta = self._add(decode(line)) if line.strip() else None
            if delta is not None:
                yield delta
            if self.done:
                return

    def body(self) -> dict[str, Any]:
        last = self._lines.rest().strip()
        if last and not self.done:  # the end of the stream ends its last line too
            self._add(decode(last))
        return self._answer.body()

    def _add(self, line: Any) -> Delta | None:
        if isinstance(line, dict) and line.get("error"):
            raise broken(line)
        message = at(line, "message")
        content = text_at(message, "content")
        calls = _calls(message, self._call_prefix, self._calls)
        pieces = [{"index": self._calls + n, **call} for n, call in enumerate(calls)]
        self._calls += len(pieces)
        self._answer.text(content)
        self._answer.calls(pieces)
        if isinstance(line, dict) and line.get("done") is True:
            self.done = True
            self._answer.model = text_at(line, "model")
            self._answer.finish_reason = _finish_reason(line, self._calls > 0)
            self._answer.usage = _usage(line)
        return Delta(content=content, tool_calls=pieces or ()) if content or pieces else None


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names: dict[str, str] = {}  # of tools, by the id of their call
    found = []
    for message in messages:
        role = message.get("role", "")
        ours: dict[str, Any] = {
            "role": "system" if role == "developer" else role,
            "content": plain_text(message.get("content")),
        }
        if role == "tool":
            call = text_at(message, "tool_call_id")
            ours["tool_name"] = names.get(call) or text_at(message, "name")
        calls = objects_at(message, "tool_calls")
        if calls:
            names |= {text_at(call, "id"): text_at(at(call, "function"), "name") for call in calls}
            ours["tool_calls"] = [_call_up(call) for call in calls]
        found.append(ours)
    return found


def _call_up(call: dict[str, Any]) -> dict[str, Any]:
    name = text_at(at(call, "function"), "name")
    return {"function": {"name": name, "arguments": arguments_of(call)}}


def _parameters(extra: dict[str, Any]) -> dict[str, Any]:
    options = dict(at(extra, "options"))
    document: dict[str, Any] = {}
    for key, value in extra.items():
        if key in _OPTIONS:
            options[_OPTIONS[key]] = value
        elif key not in _OURS and key not in _NOT_THERE:
            document[key] = value
    if options:
        document["options"] = options
    response_format = at(extra, "response_format")
    if response_format.get("type") == "json_schema":
        document["format"] = at(at(extra, "response_format"), "json_schema").get("schema", "json")
    elif response_format.get("type") == "json_object":
        document["format"] = "json"
    return document


def _calls(message: dict[str, Any], prefix: str, known: int) -> list[dict[str, Any]]:
    """In OpenAI's form."""
    return [
        {
            "id": text_at(call, "id") or f"{prefix}{known + number}",
            "type": "function",
            "function": {
                "name": text_at(at(call, "function"), "name"),
                "arguments": _arguments(at(call, "function")),
            },
        }
        for number, call in enumerate(objects_at(message, "tool_calls"))
    ]


def _arguments(function: dict[str, Any]) -> str:
    """As JSON; servers that only speak like Ollama give them so already."""
    return text_at(function, "arguments") or msgspec.json.encode(at(function, "arguments")).decode()


def _finish_reason(answer: dict[str, Any], calls: bool) -> str:
    if calls:
        return "tool_calls"
    return "length" if answer.get("done_reason") == "length" else "stop"


def _usage(answer: dict[str, Any]) -> dict[str, Any]:
    return usage_document(count_at(answer, "prompt_eval_count"), count_at(answer, "eval_count"))


def _id(now_s: int) -> str:
    return f"chatcmpl-ollama-{now_s}"

"""Anthropic's Messages API.

The rule: system messages become its `system`, tool calls and results its content blocks, both
ways; parameters that OpenAI's API has and this one calls otherwise are translated, all others go
to the top level as they are. What it has no word for (a format that is plain JSON) is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spear.errors import ModelGarbled, ModelRefused
from spear.hostcalls.llm.backends.answers import (
    at,
    broken,
    count_at,
    decode,
    object_of,
    objects_at,
    text_at,
)
from spear.hostcalls.llm.backends.assembly import Assembly, usage_document
from spear.hostcalls.llm.backends.dialect import credential_header, versioned
from spear.hostcalls.llm.backends.messages import arguments_of, plain_text
from spear.hostcalls.llm.http.sse import SseParser
from spear.hostcalls.llm.request import Delta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear._core.outlets import Outlet
    from spear.hostcalls.llm.request import ChatRequest, EmbedRequest

VERSION = "2023-06-01"
MAX_TOKENS = 4096  # it must be told; where the request says nothing
_TRANSLATED = frozenset((
    "model", "messages", "tools", "stream", "stream_options", "max_tokens", "max_completion_tokens",
    "stop", "tool_choice", "parallel_tool_calls", "response_format", "n", "seed", "user",
    "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias",
))  # fmt: skip
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}  # all others: stop
_PROMPT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def headers_for(credential: str) -> dict[str, str]:
    return {"anthropic-version": VERSION, **credential_header("x-api-key", "", credential)}


class AnthropicDialect:
    embed_path = ""
    stream_type = "text/event-stream"

    def __init__(self, base_url: str) -> None:
        self.chat_path = versioned(base_url, "/messages")
        self.probe_path = versioned(base_url, "/models")

    def chat(self, request: ChatRequest, model: str) -> dict[str, Any]:
        extra = request.extra
        system = [plain_text(m.get("content")) for m in request.messages if _is_system(m)]
        document: dict[str, Any] = {
            "model": model,
            "max_tokens": extra.get("max_completion_tokens")
            or extra.get("max_tokens")
            or MAX_TOKENS,
            "messages": _turns([m for m in request.messages if not _is_system(m)]),
        }
        if system:
            document["system"] = "\n\n".join(system)
        if request.tools:
            document["tools"] = [_tool(tool) for tool in request.tools]
            document |= _tool_choice(extra)
        stop = extra.get("stop")
        if stop:
            document["stop_sequences"] = stop if isinstance(stop, list) else [stop]
        document |= _output(at(extra, "response_format"))
        return document | {k: v for k, v in extra.items() if k not in _TRANSLATED}

    def streamed(self, document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "stream": True}

    def completion(self, answer: Any, request: ChatRequest, now_s: int) -> dict[str, Any]:
        answer = object_of(answer)
        if not isinstance(answer.get("content"), list):
            raise ModelGarbled("the answer has no content")
        whole = Assembly()
        whole.id, whole.model, whole.created = (
            text_at(answer, "id"),
            text_at(answer, "model"),
            now_s,
        )
        whole.finish_reason = _REASONS.get(text_at(answer, "stop_reason"), "stop")
        for number, block in enumerate(objects_at(answer, "content")):
            if block.get("type") == "text":
                whole.text(text_at(block, "text"))
            elif block.get("type") == "tool_use":
                arguments = msgspec.json.encode(at(block, "input")).decode()
                whole.calls([_piece(number, block, arguments)])
        whole.usage = _usage(at(answer, "usage"))
        return whole.body()

    def reader(self, request: ChatRequest, now_s: int) -> AnthropicReader:
        return AnthropicReader(now_s)

    def embed(self, request: EmbedRequest, model: str) -> dict[str, Any]:
        raise ModelRefused("this API has no embeddings")

    def embeddings(self, answer: Any) -> Any:
        raise ModelRefused("this API has no embeddings")


class AnthropicReader:
    """Of the events of a message."""

    def __init__(self, now_s: int) -> None:
        self.done = False
        self._events, self._answer = SseParser(), Assembly()
        self._answer.created = now_s
        self._used: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # the number of a call by its block's

    def straight(self, outlet: Outlet, bytes_max: int) -> None:
        """There is no such way yet."""

    def feed(self, data: bytes) -> Iterator[Delta]:
        for _, event in self._events.feed(data):
            delta = self._add(object_of(decode(event)))
            if delta is not None:
                yield delta
            if self.done:
                return

    def body(self) -> dict[str, Any]:
        self._answer.usage = _usage(self._used)
        return self._answer.body()

    def _add(self, event: dict[str, Any]) -> Delta | None:
        match event.get("type"):
            case "content_block_delta":
                return self._piece(_index(event), at(event, "delta"))
            case "content_block_start":
                return self._block(_index(event), at(event, "content_block"))
            case "message_start":
                message = at(event, "message")
                self._answer.id, self._answer.model = (
                    text_at(message, "id"),
                    text_at(message, "model"),
                )
                self._used |= at(message, "usage")
            case "message_delta":
                reason = text_at(at(event, "delta"), "stop_reason")
                self._answer.finish_reason = _REASONS.get(reason, "stop")
                self._used |= at(event, "usage")
            case "message_stop":
                self.done = True
            case "error":
                raise broken(event)
        return None

    def _block(self, index: int, block: dict[str, Any]) -> Delta | None:
        if block.get("type") != "tool_use":
            return self._text(text_at(block, "text"))
        self._calls[index] = len(self._calls)
        whole = at(block, "input")  # nearly always empty here: it follows in pieces
        arguments = msgspec.json.encode(whole).decode() if whole else ""
        return self._call(_piece(self._calls[index], block, arguments))

    def _piece(self, index: int, delta: dict[str, Any]) -> Delta | None:
        if delta.get("type") == "text_delta":
            return self._text(text_at(delta, "text"))
        if delta.get("type") != "input_json_delta" or index not in self._calls:
            return None
        arguments = text_at(delta, "partial_json")
        return self._call({"index": self._calls[index], "function": {"arguments": arguments}})

    def _text(self, text: str) -> Delta | None:
        if not text:
            return None
        self._answer.text(text)
        return Delta(content=text)

    def _call(self, piece: dict[str, Any]) -> Delta:
        self._answer.calls([piece])
        return Delta(tool_calls=[piece])


def _is_system(message: dict[str, Any]) -> bool:
    return message.get("role") in ("system", "developer")


def _turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of tools that follow one another are one turn of the user."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role not in ("user", "assistant", "tool"):
            raise ModelRefused(f"this API has no messages of the role {role!r}")
        text = plain_text(message.get("content"))
        if role == "user":
            turns.append({"role": "user", "content": text})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(message, text)})
        else:
            result = {
                "type": "tool_result",
                "tool_use_id": text_at(message, "tool_call_id"),
                "content": text,
            }
            if turns and turns[-1]["role"] == "user" and isinstance(turns[-1]["content"], list):
                turns[-1]["content"].append(result)
            else:
                turns.append({"role": "user", "content": [result]})
    return turns


def _assistant(message: dict[str, Any], text: str) -> str | list[dict[str, Any]]:
    calls = objects_at(message, "tool_calls")
    if not calls:
        return text
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for call in calls:
        name = text_at(at(call, "function"), "name")
        id = text_at(call, "id")
        blocks.append({"type": "tool_use", "id": id, "name": name, "input": arguments_of(call)})
    return blocks


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = at(tool, "function") or tool
    found = {"name": text_at(function, "name")}
    if text_at(function, "description"):
        found["description"] = text_at(function, "description")
    return {**found, "input_schema": at(function, "parameters") or {"type": "object"}}


def _tool_choice(extra: dict[str, Any]) -> dict[str, Any]:
    asked = extra.get("tool_choice")
    if isinstance(asked, dict):
        choice: dict[str, Any] = {"type": "tool", "name": text_at(at(asked, "function"), "name")}
    elif isinstance(asked, str) and asked in _CHOICES:
        choice = {"type": _CHOICES[asked]}
    else:
        choice = {"type": "auto"}
    if extra.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tool_choice": choice} if choice != {"type": "auto"} else {}


def _output(response_format: dict[str, Any]) -> dict[str, Any]:
    kind = response_format.get("type", "text")
    if kind == "text":
        return {}
    schema = at(at(response_format, "json_schema"), "schema")
    if kind != "json_schema" or not schema:
        raise ModelRefused(f"this API has no response_format {kind!r}, only json_schema")
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def _index(event: dict[str, Any]) -> int:
    """Of the block that the event is about."""
    index = event.get("index")
    return index if isinstance(index, int) else -1


def _piece(index: int, block: dict[str, Any], arguments: str) -> dict[str, Any]:
    """Of a tool call in OpenAI's form."""
    return {
        "index": index,
        "id": text_at(block, "id"),
        "type": "function",
        "function": {"name": text_at(block, "name"), "arguments": arguments},
    }


def _usage(used: dict[str, Any]) -> dict[str, Any]:
    return usage_document(
        sum(count_at(used, key) for key in _PROMPT), count_at(used, "output_tokens")
    )

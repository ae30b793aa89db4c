"""OpenAI's chat completions and embeddings, which many servers speak.

The rule: what is asked goes up as it is, and an answer comes back as it is. `stream` is ours to
set; a stream is asked for its usage too.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from spear._core.plainstream import PlainStream
from spear.hostcalls.llm.backends.answers import at, broken, decode, objects_at, text_at
from spear.hostcalls.llm.backends.assembly import Assembly
from spear.hostcalls.llm.backends.dialect import credential_header, versioned
from spear.hostcalls.llm.http.sse import SseParser
from spear.hostcalls.llm.request import Delta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear._core.outlets import Outlet
    from spear.hostcalls.llm.request import ChatRequest, EmbedRequest

_OURS = frozenset(("model", "messages", "tools", "stream", "input"))
_KNOWN = frozenset(("role", "content", "tool_calls"))  # what a delta has nearly always


def headers_for(credential: str) -> dict[str, str]:
    return credential_header("authorization", "Bearer ", credential)


class OpenAiDialect:
    stream_type = "text/event-stream"

    def __init__(self, base_url: str) -> None:
        self.chat_path = versioned(base_url, "/chat/completions")
        self.embed_path = versioned(base_url, "/embeddings")
        self.probe_path = versioned(base_url, "/models")

    def chat(self, request: ChatRequest, model: str) -> dict[str, Any]:
        document: dict[str, Any] = {"model": model, "messages": request.messages}
        if request.tools:
            document["tools"] = request.tools
        if request.extra:
            left_out = _OURS | {"stream_options"}  # which servers refuse where nothing streams
            document |= {k: v for k, v in request.extra.items() if k not in left_out}
        return document

    def streamed(self, document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "stream": True, "stream_options": {"include_usage": True}}

    def completion(self, answer: Any, request: ChatRequest, now_s: int) -> Any:
        return answer

    def reader(self, request: ChatRequest, now_s: int) -> OpenAiReader:
        return OpenAiReader()

    def embed(self, request: EmbedRequest, model: str) -> dict[str, Any]:
        extra = {key: value for key, value in request.extra.items() if key not in _OURS}
        return {"model": model, "input": request.texts, **extra}

    def embeddings(self, answer: Any) -> Any:
        return answer


class _PlainDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str
    role: str | None = None
    refusal: None = None
    tool_calls: None = None
    reasoning_content: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _PlainDelta
    index: Literal[0] = 0
    finish_reason: None = None


class _PlainChunk(msgspec.Struct, gc=False):
    """Some text and nothing else that matters: nearly every chunk. Read by its type, a chunk costs
    a third of what looking into its document does."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None


_decode_plain = msgspec.json.Decoder(_PlainChunk).decode


class OpenAiReader:
    """Of chat completion chunks."""

    def __init__(self) -> None:
        self.done = False
        self._events, self._answer = SseParser(), Assembly()
        self._plain: PlainStream | None = None  # what came by it comes before the rest

    def straight(self, outlet: Outlet, bytes_max: int) -> PlainStream | None:
        if not (self._answer.id and self._events.between):
            return None
        if self._plain is None:
            self._plain = PlainStream(outlet)
        self._catch_up()
        self._plain.begin(bytes_max, self._answer.room)
        return self._plain

    def feed(self, data: bytes) -> Iterator[Delta]:
        answer = self._answer
        self._catch_up()
        for _, event in self._events.feed(data):
            try:
                content = _decode_plain(event).choices[0].delta.content if answer.id else None
            except (ValueError, RecursionError):
                content = None
            if content is not None:
                answer.text(content)
                delta = Delta(content=content) if content else None
            elif event == b"[DONE]":
                self.done = True
                return
            else:
                delta = self._add(decode(event))
            if delta is not None:
                yield delta

    def body(self) -> dict[str, Any]:
        self._catch_up()
        if self.done:  # said so, though no piece named a reason
            self._answer.finish_reason = self._answer.finish_reason or "stop"
        return self._answer.body()

    def _catch_up(self) -> None:
        if self._plain is not None and (text := self._plain.text()):
            self._answer.text(text)

    def _add(self, chunk: Any) -> Delta | None:
        if isinstance(chunk, dict) and chunk.get("error"):
            raise broken(chunk)
        answer = self._answer
        if not answer.id:
            self._name(chunk)
        answer.usage = at(chunk, "usage") or answer.usage
        for choice in objects_at(chunk, "choices"):
            if choice.get("index", 0) == 0:
                answer.finish_reason = text_at(choice, "finish_reason") or answer.finish_reason
                return self._delta(at(choice, "delta"))
        return None

    def _delta(self, delta: dict[str, Any]) -> Delta | None:
        content = text_at(delta, "content")
        if content:
            self._answer.text(content)
        for key in delta.keys() - _KNOWN:  # a refusal, or what the model thinks
            if isinstance(delta[key], str):
                self._answer.text(delta[key], key)
        calls = objects_at(delta, "tool_calls") if "tool_calls" in delta else []
        if calls:
            self._answer.calls(calls)
        return Delta(content=content, tool_calls=calls or ()) if content or calls else None

    def _name(self, chunk: Any) -> None:
        known = chunk if isinstance(chunk, dict) else {}
        created = known.get("created")
        self._answer.id, self._answer.model = text_at(known, "id"), text_at(known, "model")
        self._answer.created = created if isinstance(created, int) else 0

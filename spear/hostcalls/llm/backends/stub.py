"""A model that is none: always the same answer to the same request, without a network.

The rule: exactly what the guest ABI says of the stub backend (section 14), so that examples and
tests run offline. Embeddings are hashed character n-grams: texts that share words lie near.
"""

from __future__ import annotations

import asyncio
import math
import re
import zlib
from typing import Any

import msgspec

from spear.hostcalls.llm.backends.answers import at, text_at
from spear.hostcalls.llm.request import Delta, Reply
from spear.records.usage import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear.hostcalls.llm.request import ChatRequest, Deliver, EmbedRequest
    from spear.records.models import BackendSpec

MODEL = "stub"
ANSWER, ANSWER_AFTER_TOOL = "stub chat completion", "stub chat completion after tool"
DIMENSIONS = 256
_GRAMS = (3, 4, 5)
_TEXT_MAX = 16_384  # characters looked at for a vector
_INTEGER = re.compile(r"(?<![\w.])-?[0-9]{1,18}(?![\w.]*[0-9])")
_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"\s*\S+")


class StubBackend:
    keeps_time = False

    def __init__(self, spec: BackendSpec) -> None:
        self.spec = spec

    async def chat(self, request: ChatRequest, model: str) -> Reply:
        return self._reply(request, _completion(request, model or MODEL))

    async def stream(self, request: ChatRequest, model: str, deliver: Deliver) -> Reply:
        body = _completion(request, model or MODEL)
        message = body["choices"][0]["message"]
        pieces = [Delta(content=text) for text in _PIECE.findall(message["content"] or "")]
        calls = message.get("tool_calls", [])
        if calls:
            pieces.append(Delta(tool_calls=[{"index": n, **call} for n, call in enumerate(calls)]))
        for piece in pieces:
            wait = deliver(piece)
            if wait is not None:
                await wait
        return self._reply(request, body)

    async def embed(self, request: EmbedRequest, model: str) -> Reply:
        tokens = sum(_tokens(text) for text in request.texts)
        data = []
        for n, text in enumerate(request.texts):
            await asyncio.sleep(0)  # a long text takes milliseconds, which others get between
            data.append({"object": "embedding", "index": n, "embedding": vector(text)})
        body = {
            "object": "list",
            "data": data,
            "model": model or MODEL,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return self._reply(request, body)

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _reply(self, request: ChatRequest | EmbedRequest, body: dict[str, Any]) -> Reply:
        used = body["usage"]
        usage = Usage(
            calls=1,
            prompt_tokens=used["prompt_tokens"],
            completion_tokens=used.get("completion_tokens", 0),
        )
        model = request.model or body["model"]
        return Reply(body=body, backend=self.spec.name, model=model, usage=usage)


def vector(text: str) -> list[float]:
    """Of length 1 (all zeros for a text without words)."""
    sums = [0.0] * DIMENSIONS
    for word in _WORD.findall(text[:_TEXT_MAX].lower()):
        for gram in _grams(f" {word} "):
            number = zlib.crc32(gram.encode(errors="replace"))
            sums[number % DIMENSIONS] += 1.0 if number >> 31 else -1.0
    length = math.sqrt(sum(value * value for value in sums)) or 1.0
    return [round(value / length, 6) for value in sums]


def _grams(word: str) -> Iterator[str]:
    for size in _GRAMS:
        for start in range(len(word) - size + 1):
            yield word[start : start + size]


def _completion(request: ChatRequest, model: str) -> dict[str, Any]:
    message = _message(request)
    prompt = sum(_tokens(text_of(message)) for message in request.messages)
    completion = _tokens(message["content"] or "") + 8 * len(message.get("tool_calls", []))
    return {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }


def _message(request: ChatRequest) -> dict[str, Any]:
    if any(message.get("role") == "tool" for message in request.messages):
        return {"role": "assistant", "content": ANSWER_AFTER_TOOL}
    if not request.tools:
        return {"role": "assistant", "content": ANSWER}
    return {"role": "assistant", "content": None, "tool_calls": [_call(request)]}


def _call(request: ChatRequest) -> dict[str, Any]:
    function = at(request.tools[0], "function") or request.tools[0]
    properties = at(at(function, "parameters"), "properties")
    names = [name for name in properties if at(properties, name).get("type") == "integer"]
    users = [message for message in request.messages if message.get("role") == "user"]
    found = _INTEGER.findall(text_of(users[-1])) if users else []
    arguments = {name: int(number) for name, number in zip(names, found, strict=False)}
    return {
        "id": "call_stub_0",
        "type": "function",
        "function": {
            "name": text_at(function, "name"),
            "arguments": msgspec.json.encode(arguments).decode(),
        },
    }


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _tokens(text: str) -> int:
    """Words stand for tokens."""
    return len(text.split())

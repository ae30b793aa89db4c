"""A fake of Ollama's API: chat, whole and streamed, embed, version, tags, ps."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.openai import answer_to, words
from tests.fakes.server import Fake
from tests.fakes.step import Step

CREATED = "2026-01-02T03:04:05.678Z"


class OllamaFake(Fake):
    """`models` are what /api/tags names, `running` what /api/ps does."""

    stream_type = "application/x-ndjson"

    def __init__(
        self, default: Step | None = None, key: str = "", *,
        models: tuple[str, ...] = ("tiny:latest",), running: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(default, key)
        self.models, self.running = models, running

    def routes(self) -> list[web.RouteDef]:
        found = [web.post("/api/chat", self.chat), web.post("/api/embed", self.embed)]
        return found + [web.get(f"/api/{name}", self.look) for name in ("version", "tags", "ps")]

    def listing(self, path: str) -> Any:
        if path == "/api/version":
            return {"version": "0.0.0-fake"}
        names = self.models if path == "/api/tags" else self.running
        return {"models": [{"name": name, "model": name, "size": 1000} for name in names]}

    def streams(self, document: dict[str, Any]) -> bool:
        return document.get("stream") is not False  # as Ollama: unless told otherwise

    def whole(self, step: Step, document: dict[str, Any]) -> Any:
        step = answer_to(step, document["messages"], document.get("tools", []))
        return self._line(document, step.text or "", step, last=True)

    def pieces(self, step: Step, document: dict[str, Any]) -> list[bytes]:
        step = answer_to(step, document["messages"], document.get("tools", []))
        without = msgspec.structs.replace(step, calls=())
        lines = [
            self._line(document, word, without, last=False)
            for word in words(step.text or "")
            if word
        ]
        if step.calls:
            lines.append(self._line(document, "", step, last=False))
        lines.append(
            {"error": step.error} if step.error else self._line(document, "", without, last=True)
        )
        return [msgspec.json.encode(line) + b"\n" for line in lines]

    def vectors(self, step: Step, document: dict[str, Any]) -> Any:
        return {
            "model": document["model"],
            "embeddings": [[float(len(text)), 1.0] for text in document["input"]],
            "total_duration": 1000,
            "prompt_eval_count": step.prompt_tokens,
        }

    def error(self, status: int, message: str) -> Any:
        return {"error": message}

    def _line(self, document: dict[str, Any], text: str, step: Step, *, last: bool) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if step.calls:
            message["tool_calls"] = [
                {"function": {"name": call.name, "arguments": call.arguments}}
                | ({"id": call.id} if call.id else {})
                for call in step.calls
            ]
        line = {"model": document["model"], "created_at": CREATED, "message": message, "done": last}
        if not last:
            return line
        return {
            **line,
            "done_reason": step.finish or "stop",
            "total_duration": 1000,
            "prompt_eval_count": step.prompt_tokens,
            "eval_count": step.completion_tokens,
        }

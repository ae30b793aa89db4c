"""The answer that the pieces of a stream make, as OpenAI's API would give it whole.

The rule: pure; only the first choice counts; its text and its tool calls are together bounded by
ANSWER_CHARS_MAX, and a call without arguments has an empty object. Pieces of tool calls are joined
by their index, and where there is none, a piece with an id begins a new call.
"""

from __future__ import annotations

from typing import Any

from spear.errors import ModelGarbled
from spear.hostcalls.llm.backends.answers import at, text_at

ANSWER_CHARS_MAX = 16 * 1024**2
_CALLS_MAX = 1024
_KEY_CHARS = 256  # what a key beside the text counts


def completion(
    message: dict[str, Any], finish_reason: str, *, id: str, model: str, created: int,
    usage: dict[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """A chat completion in OpenAI's form."""
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    body = {
        "id": id, "object": "chat.completion", "created": created, "model": model,
        "choices": [choice],
    }  # fmt: skip
    return body if usage is None else {**body, "usage": usage}


def usage_document(prompt: int, completed: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completed,
        "total_tokens": prompt + completed,
    }


class Assembly:
    """What came so far. The attributes are set as they become known."""

    def __init__(self) -> None:
        self.id = self.model = self.finish_reason = ""
        self.created = 0
        self.usage: dict[str, Any] | None = None
        self._texts: dict[str, list[str]] = {"content": []}  # by key
        self._calls: dict[int, dict[str, Any]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._size = 0

    def text(self, piece: str, key: str = "content") -> None:
        """Raises ModelGarbled beyond the limit, as `calls` does."""
        texts = self._texts.get(key)
        if texts is None:
            self._grow(len(key) + _KEY_CHARS)
            texts = self._texts[key] = []
        self._size += len(piece)
        if self._size > ANSWER_CHARS_MAX:
            raise self._too_large()
        texts.append(piece)

    @property
    def room(self) -> int:
        """How many characters more it takes."""
        return ANSWER_CHARS_MAX - self._size

    def calls(self, pieces: list[dict[str, Any]]) -> None:
        for piece in pieces:
            index = self._index(piece)
            call = self._calls.get(index)
            if call is None:
                call = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                self._calls[index], self._arguments[index] = call, []
            function = at(piece, "function")
            call["id"] = call["id"] or text_at(piece, "id")
            call["function"]["name"] = call["function"]["name"] or text_at(function, "name")
            arguments = text_at(function, "arguments")
            self._grow(len(arguments) + 1)
            self._arguments[index].append(arguments)

    def body(self) -> dict[str, Any]:
        """Raises ModelGarbled where the answer did not come to its end."""
        if not self.finish_reason:
            raise ModelGarbled("the answer broke off")
        message: dict[str, Any] = {"role": "assistant"}
        message |= {key: "".join(pieces) for key, pieces in self._texts.items()}
        if self._calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [self._call(index) for index in sorted(self._calls)]
        return completion(
            message, self.finish_reason,
            id=self.id, model=self.model, created=self.created, usage=self.usage,
        )  # fmt: skip

    def _call(self, index: int) -> dict[str, Any]:
        call = self._calls[index]
        call["function"]["arguments"] = "".join(self._arguments[index]) or "{}"
        return call

    def _index(self, piece: dict[str, Any]) -> int:
        index = piece.get("index")
        if not isinstance(index, int):
            last = max(self._calls, default=-1)
            index = last + 1 if last < 0 or piece.get("id") else last
        if len(self._calls) >= _CALLS_MAX and index not in self._calls:
            raise ModelGarbled(f"the answer has more than {_CALLS_MAX} tool calls")
        return index

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > ANSWER_CHARS_MAX:
            raise self._too_large()

    def _too_large(self) -> ModelGarbled:
        return ModelGarbled(f"the answer is larger than {ANSWER_CHARS_MAX} characters")

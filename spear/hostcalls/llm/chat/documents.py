"""What a guest reads of a request to a model: answers, errors, metrics, the events of a stream.

The rule: JSON without a space between tokens, since guests look for the bytes of a key and its
value; what the model's side sent stays as it was, beside our `_spear`.
Source: the guest ABI, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from spear.errors import ModelError
from spear.hostcalls.llm.request import Reply

NO_METRICS = b"{}"
PIECE_CHARACTERS = 8192  # of text in one event of a stream
_COUNT_END = 1 << 53  # what counts more tokens counts nothing


compact = msgspec.json.Encoder().encode  # of any value


def success(reply: Reply) -> bytes:
    """The body of the answer and, at its top level, who gave it."""
    origin = _origin(reply)
    if not isinstance(reply.body, dict):
        return compact({"_spear": origin, "result": reply.body})
    return compact({**reply.body, "_spear": origin})


def failure(message: str, code: str = "") -> bytes:
    return compact({"error": _error(message, code)})


def failure_of(error: ModelError) -> bytes:
    return failure(str(error), error.code)


class Metrics:
    """Sums over the requests of one send, as the models' side counted."""

    __slots__ = ("completion", "iterations", "prompt", "total")

    def __init__(self) -> None:
        self.prompt = self.completion = self.total = self.iterations = 0

    def add(self, reply: Reply) -> None:
        usage = reply.body.get("usage") if isinstance(reply.body, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        prompt = _count(usage, "prompt_tokens", reply.usage.prompt_tokens)
        completion = _count(usage, "completion_tokens", reply.usage.completion_tokens)
        self.prompt += prompt
        self.completion += completion
        self.total += _count(usage, "total_tokens", prompt + completion)
        self.iterations += 1

    def document(self, latency_ns: int) -> bytes:
        return compact(
            {
                "prompt_tokens": self.prompt,
                "completion_tokens": self.completion,
                "total_tokens": self.total,
                "latency_ms": latency_ns // 1_000_000,
                "iterations": self.iterations,
            }
        )


# ---- events of a stream


class _DeltaEvent(msgspec.Struct, tag_field="type", tag="delta", gc=False):
    content: str


def delta_event(content: str) -> bytes:
    return compact(_DeltaEvent(content))


def delta_events(content: str) -> list[bytes]:
    """A long text goes in pieces, each of whole characters."""
    pieces = range(0, len(content), PIECE_CHARACTERS)
    return [delta_event(content[at : at + PIECE_CHARACTERS]) for at in pieces]


def end_events(reply: Reply) -> Iterator[bytes]:
    """The tool calls, if the model made any, and the end."""
    choice = first_choice(reply.body)
    calls = message_of(reply.body).get("tool_calls")
    if isinstance(calls, list) and calls:
        yield compact({"type": "tool_calls", "tool_calls": calls})
    reason = choice.get("finish_reason")
    yield compact({"type": "end", "finish_reason": reason, "_spear": _origin(reply)})


def error_event(error: ModelError) -> bytes:
    return compact({"type": "error", "error": _error(str(error), error.code)})


# ---- what is in an answer


def first_choice(body: Any) -> dict[str, Any]:
    """Empty where there is none."""
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def message_of(body: Any) -> dict[str, Any]:
    """Of the first choice; empty where there is none."""
    message = first_choice(body).get("message")
    return message if isinstance(message, dict) else {}


def _origin(reply: Reply) -> dict[str, str]:
    return {"backend": reply.backend, "model": reply.model}


def _error(message: str, code: str) -> dict[str, str]:
    return {"code": code, "message": message} if code else {"message": message}


def _count(usage: dict[str, Any], key: str, default: int) -> int:
    found = usage.get(key)
    sane = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < _COUNT_END
    return found if sane and isinstance(found, int) else default

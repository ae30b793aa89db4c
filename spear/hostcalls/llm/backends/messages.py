"""Reads OpenAI's messages, for dialects that say them otherwise.

The rule: pure; what another dialect cannot say raises ModelRefused before anything is sent.
"""

from __future__ import annotations

from typing import Any

from spear.errors import ModelGarbled, ModelRefused
from spear.hostcalls.llm.backends.answers import at, decode, object_of, text_at


def plain_text(content: Any) -> str:
    """Of a message. Raises ModelRefused for what is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ModelRefused("a message has a content that is no text")
    return "\n".join(text for text in texts if text is not None)


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    """Of a tool call in OpenAI's form. Raises ModelRefused."""
    text = text_at(at(call, "function"), "arguments")
    try:
        return object_of(decode(text.encode())) if text.strip() else {}
    except (ModelGarbled, UnicodeEncodeError):
        raise ModelRefused("a tool call in the messages has arguments that are no object") from None

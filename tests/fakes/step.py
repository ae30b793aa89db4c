"""What a fake does with one request, and how it fails.

The rule: plain values; a step is used up by one POST, and where none is left, the fake's `default`
is used again and again.
"""

from __future__ import annotations

from typing import Any

import msgspec

HANG_BEFORE, HANG_WITHIN = "before", "within"


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: dict[str, Any]
    id: str = ""  # empty: one of its own


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: `text`, or the `calls`; None for both: what the request suggests,
    `repeat` times. All others are faults, or how it is sent."""

    text: str | None = None
    calls: tuple[Call, ...] | None = None
    prompt_tokens: int = 11
    completion_tokens: int = 7
    finish: str = ""  # in the API's own words; empty: as it fits
    repeat: int = 1

    status: int = 200
    headers: dict[str, str] = {}
    error: str = ""  # the message of an error document; with status 200 in the midst of a stream
    hang: str = ""  # HANG_BEFORE the head, or HANG_WITHIN the body, after its first half
    drop: bool = False  # the connection is cut within the body, after its first half
    body: bytes | None = None  # these bytes instead of an answer
    content_type: str = ""  # instead of the right one
    cut: int = 0  # a stream is written in chunks of so many bytes; 0: a piece a chunk
    delay_ms: int = 0  # between the chunks of a stream

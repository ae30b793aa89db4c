"""Texts become vectors: what `embed_send` is asked, and its answer.

The rule: what is no request is refused before anything is asked; what fails later is a response
whose body says so, as of a chat.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spear.errors import InvalidArgument
from spear.hostcalls.llm.chat.params import TIMEOUT_MS_MAX
from spear.hostcalls.llm.request import EmbedRequest

TEXTS_MAX = 2048  # of one request, as OpenAI has it: an empty one costs its vector too
_OURS = frozenset(("input", "model", "backend", "timeout_ms", "stream"))


class Wanted(msgspec.Struct, frozen=True):
    """What a guest may say; all else goes to the backend as it is. `timeout_ms` 0: not said."""

    input: str | list[str]
    model: str = ""
    backend: str = ""
    timeout_ms: int = 0


def read_request(text: bytes) -> tuple[EmbedRequest, int]:
    """The request and its time in ms. Raises InvalidArgument."""
    try:
        given: Any = msgspec.json.decode(text.decode(errors="replace"))
        wanted = msgspec.convert(given, Wanted)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"no request for embeddings: {error}") from None
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    if not 0 < len(texts) <= TEXTS_MAX or wanted.timeout_ms < 0:
        raise InvalidArgument(
            f"no request for embeddings: expected one and at most {TEXTS_MAX} texts in `input`, "
            "and no negative time"
        )
    extra = {key: value for key, value in given.items() if key not in _OURS}
    request = EmbedRequest(texts=texts, extra=extra, model=wanted.model, backend=wanted.backend)
    return request, min(wanted.timeout_ms, TIMEOUT_MS_MAX)

"""What is asked of a model and what it answers, whatever the backend speaks.

The rule: plain values in the shapes of OpenAI's API (messages, tools, choices), which the guest ABI
uses too; a backend that speaks otherwise translates. `deadline_ns` is monotonic; nothing here knows
of guests, routing or HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from spear.records.usage import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.outlets import Outlet

CHAT, EMBEDDINGS = "chat_completions", "embeddings"
TOOLS, JSON_SCHEMA = "supports_tools", "supports_json_schema"


# Asked before a further try, once for each one before it that reached a backend; it raises
# BudgetSpent where there may be none. It is told whether what the one before used is known.
Again = Callable[[bool], None]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`messages` in OpenAI's form, at least one; `tools` its tool objects; `extra` goes to the top
    level of the upstream body as it is. `model` and `backend` are what was asked for, or empty."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    extra: dict[str, Any] = {}
    model: str = ""
    backend: str = ""
    allowed: tuple[str, ...] = ()  # names of backends that the task may use; empty: all
    deadline_ns: int = 0
    time_ns: int = 0  # from when it was asked to its deadline, for the text of a time-out
    begin_ns: int = 0  # no try begins later; 0: its deadline
    request_id: str = ""  # of this request, in logs and for router filters
    operation: str = CHAT
    again: Again | None = None
    priced: bool = False  # only backends whose price is known may be asked

    @property
    def features(self) -> tuple[str, ...]:
        """What a backend must declare to be asked this."""
        schema = self.extra.get("response_format")
        wants_schema = isinstance(schema, dict) and schema.get("type") == "json_schema"
        return (TOOLS,) * bool(self.tools) + (JSON_SCHEMA,) * wants_schema


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`texts` become vectors, in their order."""

    texts: list[str]
    extra: dict[str, Any] = {}
    model: str = ""
    backend: str = ""
    allowed: tuple[str, ...] = ()
    deadline_ns: int = 0
    time_ns: int = 0  # from when it was asked to its deadline, for the text of a time-out
    begin_ns: int = 0  # no try begins later; 0: its deadline
    request_id: str = ""
    operation: str = EMBEDDINGS
    again: Again | None = None
    priced: bool = False  # only backends whose price is known may be asked

    @property
    def features(self) -> tuple[str, ...]:
        return ()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """`body` in OpenAI's form: a chat completion, or a list of embeddings, as the upstream sent it
    where it speaks that. `model` is the one asked for or, where none was, the one that answered.
    `usage` is of this request alone, its retries included."""

    body: Any
    backend: str
    model: str
    usage: Usage


class Delta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A piece of a streamed answer: some text, or pieces of tool calls in OpenAI's form. There is
    one for every chunk: without a list of its own, and nothing that the collector looks through."""

    content: str = ""
    tool_calls: Sequence[dict[str, Any]] = ()


# Takes a piece of a streamed answer, in the midst of the event loop's turn. What it gives is
# awaited before the next piece: only where there is no room for one. One that puts pieces of text
# into an outlet, each an event for a guest, may have it as `outlet`: see `outlet_of`.
Deliver = Callable[[Delta], Awaitable[None] | None]


def outlet_of(deliver: Deliver) -> Outlet | None:
    """Where plain text may go from now on, past `deliver`, as events; None: not now, or never."""
    outlet: Outlet | None = getattr(deliver, "outlet", None)
    return outlet

"""What every model backend does: one upstream request a call, in OpenAI's shapes.

The rule: no retry, no choice, no budget; whoever fails raises a ModelError kind with the backend's
name, and what the upstream said of its status and of when to come back. Nothing that a backend
raises or logs has its credential in it.
"""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.hostcalls.llm.request import ChatRequest, Deliver, EmbedRequest, Reply
    from spear.records.models import BackendSpec


class Backend(Protocol):
    """Used on one event loop. `model` is the one to ask for; empty only where the kind needs none.
    A request is cut off at its `deadline_ns`, and at once where its caller is cancelled."""

    @property
    def spec(self) -> BackendSpec: ...

    keeps_time: bool  # `chat` and `embed` end at the deadline; else they are cut off from outside

    async def chat(self, request: ChatRequest, model: str) -> Reply:
        """The whole answer. Raises ModelError."""
        ...

    async def stream(self, request: ChatRequest, model: str, deliver: Deliver) -> Reply:
        """Hands the pieces on as they come, and gives the whole answer. Raises ModelError, also
        after pieces."""
        ...

    async def embed(self, request: EmbedRequest, model: str) -> Reply:
        """One vector a text, in their order. Raises ModelError."""
        ...

    async def probe(self) -> None:
        """Returns where the upstream answers at all, within a few seconds. Raises ModelError."""
        ...

    async def close(self) -> None:
        """Lets connections go; what is under way fails."""
        ...

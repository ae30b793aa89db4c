"""What an upstream speaks: how OpenAI's shapes become its documents, and back.

The rule: pure, no socket and no clock; documents are JSON values; what cannot be said in the
dialect raises ModelRefused, what cannot be understood ModelGarbled.
"""

from __future__ import annotations

from typing import Any, Protocol

from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spear._core.outlets import Outlet
    from spear._core.plainstream import PlainStream
    from spear.hostcalls.llm.request import ChatRequest, Delta, EmbedRequest


class StreamReader(Protocol):
    """Makes deltas of a stream's bytes, and at the end the whole answer of the deltas."""

    @property
    def done(self) -> bool:
        """The end was said: nothing that follows matters."""
        ...

    def feed(self, data: bytes) -> Iterator[Delta]:
        """To be read to its end before the next bytes. Raises ModelError, also where the upstream
        says in the stream that it failed, after the deltas before that."""
        ...

    def straight(self, outlet: Outlet, bytes_max: int) -> PlainStream | None:
        """Who takes, instead of this, reads of at most so many bytes of a body in chunks, each read
        from its first byte on, and has events of their text in the outlet; None where this is in
        the midst of something."""
        ...

    def body(self) -> dict[str, Any]:
        """In OpenAI's form. Raises ModelGarbled where the stream did not come to its end."""
        ...


class Dialect(Protocol):
    """Paths go behind the base URL; an `embed_path` that is empty says that there is no such."""

    chat_path: str
    embed_path: str
    probe_path: str
    stream_type: str  # what a stream's content-type begins with

    def chat(self, request: ChatRequest, model: str) -> dict[str, Any]: ...

    def streamed(self, document: dict[str, Any]) -> dict[str, Any]:
        """The same request, for an answer in pieces."""
        ...

    def completion(self, answer: Any, request: ChatRequest, now_s: int) -> Any: ...

    def reader(self, request: ChatRequest, now_s: int) -> StreamReader: ...

    def embed(self, request: EmbedRequest, model: str) -> dict[str, Any]: ...

    def embeddings(self, answer: Any) -> Any: ...


def versioned(base_url: str, path: str) -> str:
    """What goes behind the base URL to reach a path of an API's first version."""
    return path if "/v1" in base_url else f"/v1{path}"


def credential_header(name: str, scheme: str, credential: str) -> dict[str, str]:
    """None without a credential. Raises InvalidArgument, which does not repeat it."""
    if not credential:
        return {}
    if not credential.isascii() or not credential.isprintable() or " " in credential:
        raise InvalidArgument("a credential has characters that no header can carry")
    return {name: f"{scheme}{credential}"}

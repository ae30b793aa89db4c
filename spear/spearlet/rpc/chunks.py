"""Large values as parts of a stream: the head first, then chunks; no part is large.

The rule: a stream of parts is read as it is needed and refused as soon as it breaks the order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from spear.errors import InvalidArgument

CHUNK_BYTES = 64 << 10
ONE_MESSAGE_BYTES_MAX = 32 << 20  # of a result in an answer; a larger one is read as a stream


class Part(Protocol):
    """A message with `oneof part { head; chunk }`."""

    chunk: bytes

    def WhichOneof(self, oneof_group: str) -> str | None: ...


P = TypeVar("P", bound=Part)


async def head_of(parts: AsyncIterator[P]) -> P:
    """The first part, which is the head. Raises InvalidArgument."""
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "head":
        raise InvalidArgument("the first part of the stream is not the head")
    return first


async def rest_of(parts: AsyncIterator[Part]) -> AsyncIterator[bytes]:
    """The bytes of the chunks after the head. Raises InvalidArgument."""
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise InvalidArgument("after the head the stream has chunks only")
        yield part.chunk


async def whole(chunks: AsyncIterator[bytes], what: str, bytes_max: int) -> bytes:
    """All of them as one. Raises InvalidArgument as soon as it is more than `bytes_max`."""
    found = bytearray()
    async for chunk in chunks:
        if len(found) + len(chunk) > bytes_max:
            raise InvalidArgument(f"{what} is larger than {bytes_max} bytes")
        found += chunk
    return bytes(found)


def cut(value: bytes) -> list[bytes]:
    """The value in parts of up to CHUNK_BYTES; none where it is empty."""
    return [value[at : at + CHUNK_BYTES] for at in range(0, len(value), CHUNK_BYTES)]

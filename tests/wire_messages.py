"""Bytes of messages as strangers might send them, and what the protobuf library makes of them."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from spear.errors import InvalidArgument
from spear.protocol.convert.mirror import Mirror

REFUSED = object()
NUMBERS = (0, 1, 2, 127, 128, 300, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (b"", b"a", b"completed", "\u00e9\u4e16".encode(), b"\xff", b"\xed\xa0\x80", b"x" * 200)
CHUNKS = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)


def by_protobuf(mirror: Mirror[Any, Any], data: bytes) -> Any:
    """The record in these bytes by way of the library, or REFUSED."""
    try:
        return mirror.slow_record(mirror.kind.FromString(data))
    except (DecodeError, InvalidArgument):
        return REFUSED


def disagreement(mirror: Mirror[Any, Any], data: bytes) -> str:
    """ "" where what is read at once is what the library reads, or is left to it."""
    found, wanted = mirror.fields.decode(data), by_protobuf(mirror, data)
    if found is None or found == wanted:
        return ""
    return f"{data.hex()} is {wanted!r} and was read as {found!r}"


def varint(value: int, longer: int = 0) -> bytes:
    """`longer`: so many bytes more than it needs."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    for _ in range(longer):
        made[-1] |= 128
        made.append(0)
    return bytes(made)


def strange(rng: random.Random, message: Descriptor, depth: int = 0) -> bytes:
    """A few fields of a message, mostly as they are declared, and in order."""
    fields = rng.sample(list(message.fields), k=min(rng.randrange(1, 9), len(message.fields)))
    if rng.random() < 0.9:
        fields.sort(key=lambda field: field.number)
    if rng.random() < 0.1:
        fields.append(rng.choice(fields))
    return b"".join(_field(rng, field, depth) for field in fields)


def _field(rng: random.Random, field: FieldDescriptor, depth: int) -> bytes:
    number = field.number if rng.random() < 0.99 else rng.choice((0, 99, 2**20))
    kind = 2 if field.cpp_type in CHUNKS else 0
    if rng.random() < 0.02:
        kind = rng.choice((0, 1, 2, 3, 4, 5))
    tag = varint(number << 3 | kind, rng.randrange(1, 5) if rng.random() < 0.01 else 0)
    longer = rng.randrange(1, 9) if rng.random() < 0.02 else 0
    if kind == 0:
        value = rng.randrange(3) if rng.random() < 0.7 else rng.choice(NUMBERS)
        return tag + varint(value, longer)
    if kind == 2:
        inner = rng.choice(TEXTS if rng.random() < 0.05 else TEXTS[:4])
        if field.message_type is not None:
            inner = strange(rng, field.message_type, depth + 1) if depth < 3 else b""
        wrong = rng.choice((-1, 1, 2**31)) if rng.random() < 0.01 else 0
        return tag + varint(max(0, len(inner) + wrong), longer) + inner
    return tag + rng.randbytes(8 if kind == 1 else 4)

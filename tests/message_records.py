"""Hypothesis strategies of records: any value that the field of its message can hold."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

RANGES = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}
TEXT = st.text(max_size=8)
SCALARS = {
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
} | {kind: st.integers(*limits) for kind, limits in RANGES.items()}
NUMBERS = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.floats(allow_nan=False))


def records(record: type[msgspec.Struct], message: Descriptor) -> st.SearchStrategy[Any]:
    """Records of this type with any of their fields left at the default."""
    required, optional = {}, {}
    for field in msgspec.structs.fields(record):
        strategy = values(field.type, message.fields_by_name[field.name])
        (required if field.required else optional)[field.name] = strategy
    return st.fixed_dictionaries(required, optional=optional).map(lambda made: record(**made))


def values(kind: Any, field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """What a record's field of type `kind` may hold beside this field of a message."""
    if type(None) in getattr(kind, "__args__", ()):
        (inner,) = [part for part in kind.__args__ if part is not type(None)]
        return st.none() | values(inner, field)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return records(kind, field.message_type)
    if getattr(kind, "__origin__", None) is dict:
        return st.dictionaries(TEXT, TEXT, max_size=3)
    if getattr(kind, "__origin__", None) is tuple:
        return st.lists(items(kind.__args__[0], field), max_size=3).map(tuple)
    return SCALARS[field.type]


def items(kind: Any, field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if kind is str:
        return TEXT
    if isinstance(kind, type):
        return records(kind, field.message_type)
    return NUMBERS

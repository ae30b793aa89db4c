"""One record for a person: a line a field, empty ones left out.

The rule: by the names of the fields alone, so a field that is added is shown: `_ns` is a time or a
duration, `_bytes` and `size` are sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from spear.cli.screens import words
from spear.units import show_size

_MOMENTS = frozenset((
    "created_ns", "started_ns", "finished_ns", "next_attempt_ns", "registered_ns", "updated_ns",
    "used_ns", "next_ns", "last_ns", "at_ns",
))  # fmt: skip


def text_of(record: msgspec.Struct) -> str:
    """Names and values in two columns."""
    return columns(list(_lines(record, "")))


def columns(rows: list[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "".join(f"{name:{width}}  {value}".rstrip() + "\n" for name, value in rows)


def _lines(record: msgspec.Struct, prefix: str) -> Iterator[tuple[str, str]]:
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, msgspec.Struct):
            yield from _lines(value, f"{prefix}{name}.")
        elif name != "output" and value not in ("", b"", 0, False, None, (), {}):
            yield f"{prefix}{_label(name)}", words.one_line(_shown(name, value))


def _label(name: str) -> str:
    return name.removesuffix("_ns").removesuffix("_bytes").removesuffix("_ms").replace("_", " ")


def _shown(name: str, value: Any) -> str:
    if name in _MOMENTS:
        return words.moment(value)
    if name.endswith("_ns"):
        return words.length(value)
    if name.endswith("_ms"):
        return words.moment(value * 10**6)
    if name == "size" or name.endswith("_bytes"):
        return show_size(value)
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return show_size(len(value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(found)}" for key, found in value.items())
    if isinstance(value, tuple):
        return ", ".join(_text(found) for found in value)
    if isinstance(value, msgspec.Struct):
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return " ".join(f"{name}={_text(found)}" for name, found in fields if found)
    return str(value)

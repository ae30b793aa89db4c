"""Records as programs read them: JSON with every field, whether it is set or not.

The rule: the fields are those of spear/records, with two changes: times and durations are
milliseconds (`..._ms`), since nanoseconds of today are more than a JSON number holds, and bytes are
text where they are, else base64, with the encoding beside them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spear.cli import document


def plain(value: object) -> Any:
    """What `json` can write. Objects of a class that is no record are not known here."""
    if isinstance(value, msgspec.Struct):
        return _fields({name: getattr(value, name) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {key: plain(found) for key, found in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(found) for found in value]
    return value


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, bytes):
            shown[name], shown[f"{name}_encoding"] = document.text_of(value)
        elif name.endswith("_ns"):
            shown[name.removesuffix("_ns") + "_ms"] = value / 1e6
        else:
            shown[name] = plain(value)
    return shown


def dump(value: object) -> bytes:
    """One JSON document with its newline."""
    import json

    text = json.dumps(plain(value), indent=2, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def dump_line(value: object) -> bytes:
    """A document on one line, for streams of them."""
    import json

    return json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "replace") + b"\n"

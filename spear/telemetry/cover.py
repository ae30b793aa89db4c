"""Known secrets covered in data that keeps its length: asterisks stand where one stood.

The rule: found is what the redactor finds (`redact.forms_of`). Data is not text: what reads it by
lengths and offsets still does, and however often a secret is in it, it takes no more room. Values
that are too short to be told from what is there by chance are left.
"""

from __future__ import annotations

from collections.abc import Iterable

from spear.telemetry.redact import forms_of

VALUE_CHARS_MIN = 8
_COVERED = b"*"

Span = tuple[int, int]


class Cover:
    """Of these values, those that are long enough; false where there are none."""

    __slots__ = ("_forms",)

    def __init__(self, values: Iterable[str]) -> None:
        self._forms = {
            form.encode("utf-8", "surrogateescape")
            for value in values
            if len(value) >= VALUE_CHARS_MIN
            for form in forms_of(value)
        }

    def __bool__(self) -> bool:
        return bool(self._forms)

    def spans(self, data: bytes, begin: int, end: int) -> list[Span]:
        """Where a form of a secret begins from `begin` to `end`, and where it ends, which may be
        behind that."""
        found: list[Span] = []
        for form in self._forms:
            stop = end + len(form) - 1
            at = data.find(form, begin, stop)
            while at >= 0:
                found.append((at, at + len(form)))
                at = data.find(form, at + 1, stop)
        return found


def covered(data: bytes, spans: Iterable[Span]) -> bytes:
    made = bytearray(data)
    for begin, end in spans:
        made[begin:end] = _COVERED * (end - begin)
    return bytes(made)

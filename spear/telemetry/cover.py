"""Known secrets covered in data that keeps its length: asterisks stand where one stood.

The rule: found is what the redactor finds (`redact.forms_of`). Data is not text: what reads it by
lengths and offsets still does, and however often a secret is in it, it takes no more room: a copy
is made where one is found first, and nothing else grows. Values that are too short to be told from
what is there by chance are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

from spear.telemetry.redact import forms_of

VALUE_CHARS_MIN = 8
_COVERED = b"*"


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

    def over(self, data: bytes) -> Covering:
        return Covering(self._forms, data)


class Covering:
    """Of one piece of data, part by part; then it is given as it may be seen by `value`."""

    __slots__ = ("_data", "_forms", "_made", "_view")

    def __init__(self, forms: Iterable[bytes], data: bytes) -> None:
        self._forms, self._data = forms, data
        # Shares the data until it is written, and what was written with who asks for its value:
        # unlike a bytearray, of which a copy would have to be made.
        self._made = BytesIO(data)
        self._view: memoryview | None = None

    @property
    def found(self) -> bool:
        """Whether anything was covered."""
        return self._view is not None

    def look(self, begin: int, end: int) -> None:
        """Covers each form of a secret that begins from `begin` to `end`; it may end behind."""
        for form in self._forms:
            self._look_for(form, begin, end + len(form) - 1)

    def _look_for(self, form: bytes, begin: int, stop: int) -> None:
        find, size = self._data.find, len(form)
        at = find(form, begin, stop)
        if at < 0:
            return
        if self._view is None:
            self._view = self._made.getbuffer()
        view, stars, ended = self._view, _COVERED * size, begin
        while at >= 0:
            first = at if at > ended else ended  # what overlaps the one before is covered so far
            ended = at + size
            view[first:ended] = stars[: ended - first]
            at = find(form, at + 1, stop)

    def value(self) -> bytes:
        """The data itself where nothing was found. Nothing is looked for after that."""
        if self._view is not None:
            self._view.release()
        return self._made.getvalue()

"""Known secrets taken out of text: each value is replaced by `[redacted:NAME]`.

The rule: who owns a secret says so (`learn`) before anything that may hold it is written, and
`forget`s it after. Found are the value itself and its usual disguises: base64 at any alignment,
hex, percent encoding, escapes of JSON, and each long line of a value of several lines. What cannot
be found: a value that was split, compressed, encrypted, or encoded twice; who cuts text asks where
(`cut`). Each form is searched for by itself: for the few secrets of a node that is many times
faster than one regular expression of all, and nothing is compiled.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import AnyStr
from urllib.parse import quote, quote_plus

VALUE_CHARS_MIN = 4  # shorter ones cannot be told from ordinary text
_LINE_CHARS_MIN = 16
_BASE64_CHARS_MIN = 6  # of a value inside of other base64


class Redactor:
    """The secrets known now. Nearly free without any."""

    __slots__ = ("_bytes_forms", "_known", "_text_forms")

    def __init__(self) -> None:
        # (name, value) -> how often it was learned, its forms
        self._known: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}
        # What is looked for, and what stands in its place.
        self._text_forms: dict[str, str] = {}
        self._bytes_forms: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        """Whether any secret is known."""
        return bool(self._known)

    def learn(self, name: str, value: str) -> bool:
        """Takes the value as secret until it was forgotten as often as it was learned. False where
        it is too short to be looked for."""
        if len(value) < VALUE_CHARS_MIN:
            return False
        count, forms = self._known.get((name, value), (0, {}))
        if not count:
            shown = f"[redacted:{re.sub('[^A-Za-z0-9_.-]', '_', name)[:64]}]"
            forms = dict.fromkeys(forms_of(value), shown)
        self._known[name, value] = (count + 1, forms)
        if not count:
            self._changed()
        return True

    def forget(self, name: str, value: str) -> None:
        count, forms = self._known.pop((name, value), (0, {}))
        if count > 1:
            self._known[name, value] = (count - 1, forms)
        elif count:
            self._changed()

    def text(self, text: str) -> str:
        return _replaced(text, self._text_forms, "") if self._known else text

    def data(self, data: bytes) -> bytes:
        return _replaced(data, self._bytes_forms, b"") if self._known else data

    def cut(self, text: str) -> tuple[int, int]:
        """Where to cut text that goes on: what may be written is ahead of the first place, what
        goes ahead of the text that follows begins at the second, and neither shows a part of a
        secret. They are one place, but where occurrences overlap: the one that ends there is
        written whole, and so is the next. What goes on is shorter than two of the longest form."""
        forms = self._text_forms
        begin = len(text) - max((_begun(text, form) for form in forms), default=0)
        if begin == len(text):
            return begin, begin
        begin = min(_begin_across(text, form, begin) for form in forms)
        return max(_end_across(text, form, begin) for form in forms), begin

    def texts(self, texts: list[str]) -> list[str]:
        """Each of them; quicker than one by one where they hold none."""
        if not self._known:
            return texts
        together = "\n".join(texts)
        if not any(form in together for form in self._text_forms):
            return texts
        return [_replaced(text, self._text_forms, "") for text in texts]

    def _changed(self) -> None:
        self._text_forms = {}
        for _, forms in self._known.values():
            self._text_forms.update(forms)
        self._bytes_forms = {
            form.encode("utf-8", "surrogateescape"): shown.encode()
            for form, shown in self._text_forms.items()
        }


def _replaced(text: AnyStr, forms: Mapping[AnyStr, AnyStr], empty: AnyStr) -> AnyStr:
    hits = [form for form in forms if form in text]
    if not hits:
        return text
    spans = sorted((begin, begin + len(form), form) for form in hits for begin in _at(form, text))
    pieces: list[AnyStr] = []
    end = 0
    for begin, stop, form in spans:
        if begin >= end:  # else it overlaps the one before, and is covered by the same words
            pieces += [text[end:begin], forms[form]]
        end = max(end, stop)
    pieces.append(text[end:])
    return empty.join(pieces)


def _begun(text: str, form: str) -> int:
    """The most characters, but not all, that the form begins with and the text ends with."""
    head = form[:VALUE_CHARS_MIN]
    ends = max(0, len(text) - len(form) + 1)
    at = text.find(head, ends)
    while at >= 0:
        if form.startswith(text[at:]):
            return len(text) - at
        at = text.find(head, at + 1)
    fewer = range(min(len(head), len(text) + 1) - 1, 0, -1)
    return next((count for count in fewer if text.endswith(head[:count])), 0)


def _begin_across(text: str, form: str, cut: int) -> int:
    """Where the form begins that lies across the cut; the cut where none does."""
    at = text.find(form, max(0, cut - len(form) + 1), cut + len(form) - 1)
    return cut if at < 0 else at


def _end_across(text: str, form: str, cut: int) -> int:
    """Where the last of the form ends that lies across the cut; the cut where none does."""
    at = text.rfind(form, max(0, cut - len(form) + 1), cut + len(form) - 1)
    return cut if at < 0 else at + len(form)


def _at(form: AnyStr, text: AnyStr) -> Iterator[int]:
    begin = text.find(form)
    while begin >= 0:
        yield begin
        begin = text.find(form, begin + 1)


def forms_of(value: str) -> Iterator[str]:
    """The value and its disguises; some of them are the same."""
    for part in (value, *(line for line in value.splitlines() if len(line) >= _LINE_CHARS_MIN)):
        yield part
        data = part.encode("utf-8", "surrogateescape")
        yield from _base64_forms(data)
        yield data.hex()
        yield data.hex().upper()
        yield from _percent_forms(data)
        for ascii_only in (True, False):
            escaped = json.dumps(part, ensure_ascii=ascii_only)[1:-1]
            yield escaped
            yield escaped.replace("/", "\\/")


def _percent_forms(data: bytes) -> Iterator[str]:
    for form in (quote(data, safe=""), quote(data), quote(data, safe="!'()*"), quote_plus(data)):
        yield form
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form)


def _base64_forms(data: bytes) -> Iterator[str]:
    """As a whole, and what it is inside of something longer: at each of three alignments the
    characters that no neighbour has a part in."""
    whole = b64encode(data)
    cores = [whole, whole.rstrip(b"=")]
    for ahead in range(3):
        encoded = b64encode(bytes(ahead) + data)
        first, end = (ahead * 8 + 5) // 6, (ahead + len(data)) * 8 // 6
        if end - first >= _BASE64_CHARS_MIN:
            cores.append(encoded[first:end])
    for core in cores:
        yield core.decode()
        yield core.translate(bytes.maketrans(b"+/", b"-_")).decode()

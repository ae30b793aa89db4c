"""Reads a TOML table key by key, so that each error names file, key, what was found and what is
accepted.

The rule: whatever the bytes are, nothing but InvalidArgument is raised; a key that nobody asked
for is one, and names the nearest known key.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

from spear.errors import InvalidArgument
from spear.units import parse_count

T = TypeVar("T")
Read = Callable[[object], T]

BYTES_MAX = 1 << 20
_SHOWN_MAX = 200


class Table:
    """One table of the file `file`; `key` is its own name, "" at the top."""

    def __init__(self, file: str, key: str, values: dict[str, Any]) -> None:
        self.file, self.key = file, key
        self._values, self._known = dict(values), list[str]()

    def get(self, key: str, read: Read[T], default: T) -> T:
        """The key's value as `read` gives it; `default` where it is not there."""
        self._known.append(key)
        if key not in self._values:
            return default
        try:
            return read(self._values.pop(key))
        except InvalidArgument as error:
            raise self.error(key, str(error)) from None

    def table(self, key: str) -> Table:
        """A table in it; an empty one where it is not there."""
        return Table(self.file, self.full(key), self.get(key, table, {}))

    @property
    def unread(self) -> tuple[str, ...]:
        """Keys that nobody asked for yet."""
        return tuple(self._values)

    def finish(self) -> None:
        """Raises InvalidArgument for what nobody asked for."""
        for key in self._values:
            nearest = difflib.get_close_matches(key, self._known, 1, cutoff=0.5)
            near = f"the nearest known one is {nearest[0]!r}" if nearest else "known are "
            raise self.error(key, "unknown key; " + near + ("" if nearest else self._names()))

    def full(self, key: str) -> str:
        return f"{self.key}.{key}" if self.key else key

    def error(self, key: str, sentence: str) -> InvalidArgument:
        return InvalidArgument(f"{self.file}: {cut(self.full(key))}: {cut(sentence, 500)}")

    def _names(self) -> str:
        return ", ".join(sorted(self._known))


def load(file: str, content: bytes) -> Table:
    """The top table."""
    if len(content) > BYTES_MAX:
        raise InvalidArgument(f"{file}: longer than {BYTES_MAX} bytes, the most that is read")
    try:
        return Table(file, "", tomllib.loads(content.decode()))
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, nested too deep
        raise InvalidArgument(f"{file} is not TOML: {cut(str(error))}") from None


def found(value: object) -> str:
    """The value as a sentence shows it."""
    try:
        return f"found {cut(repr(value))}"
    except (RecursionError, ValueError):
        return f"found a {type(value).__name__}"


def cut(text: str, characters_max: int = _SHOWN_MAX) -> str:
    return text if len(text) <= characters_max else f"{text[: characters_max - 3]}..."


def table(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise InvalidArgument(f"expected a table, {found(value)}")


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidArgument(f"expected true or false, {found(value)}")


def text(characters_max: int, *, empty: bool = False) -> Read[str]:
    least = 0 if empty else 1

    def read(value: object) -> str:
        if isinstance(value, str) and least <= len(value) <= characters_max and "\0" not in value:
            return value
        raise InvalidArgument(
            f"expected a text of {least} to {characters_max} characters without NUL, {found(value)}"
        )

    return read


def choice(*names: str) -> Read[str]:
    def read(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise InvalidArgument(f"expected one of {', '.join(names)}, {found(value)}")

    return read


def count(low: int, high: int) -> Read[int]:
    def read(value: object) -> int:
        try:
            number = parse_count(value)
        except InvalidArgument:
            number = low - 1
        if not low <= number <= high:
            raise InvalidArgument(f"expected a whole number from {low} to {high}, {found(value)}")
        return number

    return read


def thousandths(low: float, high: float) -> Read[int]:
    """A number, in thousandths."""

    def read(value: object) -> int:
        number = value if isinstance(value, (int, float)) else -1
        if not isinstance(value, bool) and low <= number <= high:  # nan is not
            return round(number * 1000)
        raise InvalidArgument(f"expected a number from {low} to {high}, {found(value)}")

    return read


def listing(item: Read[T], items_max: int) -> Read[tuple[T, ...]]:
    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > items_max:
            raise InvalidArgument(f"expected a list of at most {items_max}, {found(value)}")
        return tuple(map(item, value))

    return read


def mapping(item: Read[T], items_max: int) -> Read[dict[str, T]]:
    """A table whose keys are the user's own."""

    def read(value: object) -> dict[str, T]:
        if not isinstance(value, dict) or len(value) > items_max:
            raise InvalidArgument(f"expected a table of at most {items_max} keys, {found(value)}")
        read_key = text(256)
        return {read_key(key): _under(key, item, value[key]) for key in value}

    return read


def _under(key: str, item: Read[T], value: object) -> T:
    try:
        return item(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{cut(key, 80)!r}: {error}") from None

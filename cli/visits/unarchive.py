"""Reads back what `archive` wrote, one entry after the other.

The rule: an archive is taken whole or not at all: each header and each object is checked against
its own sum, and what has no end mark was cut off. What `archive` would not have written is refused.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from spear.cli.visits.archive import (
    ATTRIBUTE,
    BLOCK,
    DURABILITY,
    KEY,
    OURS,
    SHA256,
    VERSION,
    checksum,
)
from spear.errors import InvalidArgument

VALUE_BYTES_MAX = 1 << 30  # held in memory; a node's own limit is 64 MiB unless it says otherwise
_HEAD_BYTES_MAX = 1 << 20  # of an entry's attributes; metadata has 64 KiB


class Entry(NamedTuple):
    """An object in the archive; its value lies at `at`."""

    key: str
    attributes: dict[str, str]  # all but the sum
    sha256: str
    at: int
    size: int

    @property
    def metadata(self) -> dict[str, str]:
        return {name: text for name, text in self.attributes.items() if name not in OURS}

    @property
    def durable(self) -> bool:
        return self.attributes[DURABILITY] != "volatile"


class _Wrong(Exception):
    """What is wrong; whoever knows the file's name says it."""


def entries(file: IO[bytes], name: str) -> Iterator[Entry]:
    """All of a file that can be placed, each value checked. Raises InvalidArgument."""
    seen = set[str]()
    at = 0
    try:
        while (entry := _entry(file, at)) is not None:
            if entry.key in seen:
                raise _Wrong(f"two entries have the key {entry.key!r}")
            seen.add(entry.key)
            _value(file, entry)
            yield entry
            at = entry.at + entry.size + -entry.size % BLOCK
    except _Wrong as wrong:
        raise InvalidArgument(
            f"{name!r} is no whole archive of `spear object export`: {wrong}; nothing was put"
        ) from wrong


def value_of(file: IO[bytes], name: str, entry: Entry) -> bytes:
    """Of one of `entries`. Raises InvalidArgument where the file was changed since."""
    try:
        return _value(file, entry)
    except _Wrong as wrong:
        raise InvalidArgument(f"{name!r} was changed after it was checked: {wrong}") from wrong


def _value(file: IO[bytes], entry: Entry) -> bytes:
    file.seek(entry.at)
    value = file.read(entry.size)
    if len(value) < entry.size:
        raise _Wrong(f"it ends within the value of {entry.key!r}")
    if checksum(entry.key, entry.attributes, value) != entry.sha256:
        raise _Wrong(f"the object {entry.key!r} does not match its sha256")
    return value


def _entry(file: IO[bytes], at: int) -> Entry | None:
    """None at the end mark."""
    file.seek(at)
    head = _header(file, "its beginning" if at == 0 else f"byte {at}")
    if head is None:
        return None
    if head.type != tarfile.XHDTYPE:
        raise _Wrong(f"the entry {head.name!r} has no attributes of an object")
    if not 0 <= head.size <= _HEAD_BYTES_MAX:  # a header can say less than nothing
        raise _Wrong(f"the attributes at byte {at} have {head.size} bytes")
    padded = head.size + -head.size % BLOCK
    records = _records(_whole(file, padded)[: head.size], at)
    body = _header(file, f"byte {at + BLOCK + padded}")
    if body is None or body.type != tarfile.REGTYPE:
        raise _Wrong(f"the attributes at byte {at} are of no file")
    return _object(records, body, at + 2 * BLOCK + padded)


def _object(records: dict[str, str], body: tarfile.TarInfo, at: int) -> Entry:
    name = records.get("path", body.name)
    attributes = {
        _unescaped(record.removeprefix(ATTRIBUTE)): text
        for record, text in records.items()
        if record.startswith(ATTRIBUTE)
    }
    key = attributes.get(KEY, name)
    for ours in (VERSION, DURABILITY, SHA256):
        if ours not in attributes:
            raise _Wrong(f"the entry {name!r} has no attribute user.{ours}")
    if not 0 <= body.size <= VALUE_BYTES_MAX:
        raise _Wrong(
            f"the value of {key!r} has {body.size} bytes, and one of up to {VALUE_BYTES_MAX} is put"
        )
    return Entry(key, attributes, attributes.pop(SHA256), at, body.size)


def _unescaped(name: str) -> str:
    return name.replace("%3D", "=").replace("%25", "%")


def _header(file: IO[bytes], where: str) -> tarfile.TarInfo | None:
    block = file.read(BLOCK)
    if block == bytes(BLOCK):
        _check_end(file)
        return None
    if len(block) < BLOCK:
        raise _Wrong("it was cut off, or is none" if where != "its beginning" else "it is no tar")
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        raise _Wrong(f"there is no header of tar at {where}") from None


def _check_end(file: IO[bytes]) -> None:
    """Behind the first block of the end mark; tools pad what follows with zeros."""
    if len(block := file.read(BLOCK)) < BLOCK:
        raise _Wrong("it was cut off in its end mark")
    while block:
        if block.count(0) != len(block):
            raise _Wrong("something follows its end mark")
        block = file.read(1 << 16)


def _whole(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise _Wrong("it was cut off within an entry's attributes")
    return data


def _records(data: bytes, at: int) -> dict[str, str]:
    """`LENGTH NAME=VALUE` and a newline each, the length of it all."""
    found: dict[str, str] = {}
    try:
        while data:
            length = int(data.partition(b" ")[0])
            record, data = data[:length], data[length:]
            name, equals, text = record.partition(b" ")[2].partition(b"=")
            if not (equals and text.endswith(b"\n") and len(record) == length):
                raise ValueError
            found[name.decode()] = text[:-1].decode()
    except ValueError:  # also of UTF-8
        raise _Wrong(f"the attributes at byte {at} cannot be read") from None
    return found

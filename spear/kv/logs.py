"""Where the logs of a store break off: what a power cut leaves of two that were both unsynced.

The rule: it reads RocksDB's log format and decides nothing else. RocksDB takes a log that ends at
the end of a record, or goes on with zeros, for whole, and goes on with the next one although writes
between them are lost; what it finds then is no beginning of what was written. But each write has
its sequence numbers, so each log must begin with the one behind the last of the log before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from spear.kv.watermark import LOG_BLOCK_BYTES

HEAD = Struct("<4xHB")  # checksum, length, type
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
BATCH = Struct("<QI")  # at the beginning of a record: its first sequence number, and how many


class Gap(NamedTuple):
    """`last` is the last sequence number before it, `behind` are the paths of the logs after it."""

    last: int
    behind: list[str]


def first_gap(folder: str, least: int = 0) -> Gap | None:
    """Between the logs whose numbers are `least` and above; those below are in tables."""
    paths = [path for number, path in _numbered(folder) if number >= least]
    next_sequence: int | None = None
    for at, path in enumerate(paths):
        first, end = spanned(path)
        if first and next_sequence not in (None, first):
            return Gap((next_sequence or first) - 1, paths[at:])
        if first:
            next_sequence = end
    return None


def spanned(path: str) -> tuple[int, int]:
    """The first sequence number of a log and the one behind its last; both 0 where it has no
    record."""
    first = end = 0
    for beginning in _beginnings(path):
        sequence, count = BATCH.unpack(beginning)
        first, end = first or sequence, sequence + count
    return first, end


def _numbered(folder: str) -> list[tuple[int, str]]:
    names = (name.removesuffix(".log") for name in os.listdir(folder) if name.endswith(".log"))
    return sorted((int(name), os.path.join(folder, f"{name}.log")) for name in names)


def _beginnings(path: str) -> Iterator[bytes]:
    """The first bytes of each whole record."""
    with open(path, "rb") as file:
        data = file.read()
    at, found, open_record = 0, b"", False
    while True:
        left = LOG_BLOCK_BYTES - at % LOG_BLOCK_BYTES
        if left < HEAD.size:
            at += left
            continue
        if at + HEAD.size > len(data):
            return
        length, kind = HEAD.unpack_from(data, at)
        start, at = at + HEAD.size, at + HEAD.size + length
        if not WHOLE <= kind <= LAST or HEAD.size + length > left or at > len(data):
            return
        if kind in (WHOLE, FIRST):
            found, open_record = b"", True
        if len(found) < BATCH.size:
            found += data[start : min(at, start + BATCH.size - len(found))]
        if kind in (WHOLE, LAST) and open_record:
            if len(found) < BATCH.size:
                return
            yield found
            open_record = False

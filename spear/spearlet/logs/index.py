"""What lies where in one log file: the executions of its lines, by hash.

The rule: it only says where to look. A hash may be another execution's too, so lines are compared
by their ids; an index that is missing or damaged is made anew from its file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from spear.spearlet.logs.lines import is_tombstone, split

ENDING = ".index"
LINES, TOMBSTONE = 0, 1
_ENTRY = struct.Struct("<IIII")  # hash, kind, begin, end
_HEAD = struct.Struct("<4sIII")  # magic, version, bytes of the file that it covers, crc of all
_MAGIC, _VERSION = b"SPLI", 1


class Entry(NamedTuple):
    kind: int
    start: int
    end: int


class FileIndex:
    """Entries in the order of the file; 16 bytes for each run of one execution's lines."""

    __slots__ = ("_entries", "_last", "_saved", "covered")

    def __init__(self) -> None:
        self._entries = bytearray()
        self._last = (0, TOMBSTONE)  # hash and kind of the last entry
        self.covered = self._saved = 0  # bytes of the file

    def add(self, key: int, start: int, end: int, kind: int = LINES) -> None:
        """Lines that lie at the end of what is covered."""
        if start == self.covered and self._last == (key, LINES) and kind == LINES:
            struct.pack_into("<I", self._entries, len(self._entries) - 4, end)
        else:
            self._entries += _ENTRY.pack(key, kind, start, end)
            self._last = (key, kind)
        self.covered = end

    def add_file(self, data: bytes, start: int) -> None:
        """The whole lines in what the file has from `start` on. What has no line is passed over:
        we write none that are so long."""
        end = 0
        for begin, end, head in split(data):
            kind = TOMBSTONE if is_tombstone(data[begin:end]) else LINES
            self.add(key_of(head), start + begin, start + end, kind)
        if not end:
            self.add(key_of(b""), start, start + len(data))

    def find(self, key: int) -> Iterator[Entry]:
        entries, needle = self._entries, key.to_bytes(4, "little")
        at = entries.find(needle)
        while at >= 0:
            if at % _ENTRY.size == 0:
                yield Entry(*_ENTRY.unpack_from(entries, at)[1:])
            at = entries.find(needle, at + 1)

    def save(self, path: str) -> None:
        """Unless it is there as it is now. Raises OSError."""
        if self._saved == self.covered:
            return
        crc = zlib.crc32(self._entries, self.covered)
        head = _HEAD.pack(_MAGIC, _VERSION, self.covered, crc)
        fresh = path + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(head + self._entries)
        os.rename(fresh, path)
        self._saved = self.covered

    @classmethod
    def load(cls, path: str, file_bytes: int) -> FileIndex:
        """As saved for a file that has `file_bytes` now; an empty one where that cannot be."""
        index = cls()
        try:
            with open(path, "rb") as file:
                data = file.read()
            magic, version, covered, crc = _HEAD.unpack_from(data)
        except (OSError, struct.error):
            return index
        entries = data[_HEAD.size :]
        whole = len(entries) % _ENTRY.size == 0 and zlib.crc32(entries, covered) == crc
        if (magic, version) == (_MAGIC, _VERSION) and whole and covered <= file_bytes:
            index._entries += entries
            index.covered = index._saved = covered
        return index


def key_of(head: bytes) -> int:
    """The hash of an execution, by what its lines begin with."""
    return zlib.crc32(head)

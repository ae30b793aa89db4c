"""How far the store has told that writes are safe, kept outside of the store.

The rule: the mark is moved after a flush and before its waiters are told, never ahead. It is
written and not synced: after a power cut it may be old, which hides damage but never invents it.
RocksDB opens a log with damage in its midst as if it had ended there; then the mark is ahead of
what was found, and the loss is noticed.

Two slots are written by turns, so that one torn write leaves the other.
"""

from __future__ import annotations

import os
from struct import Struct
from zlib import crc32

from spear.kv.archive import sync_folder

NAME = "SPEAR-SYNCED"
SLOT = Struct("<8sQ")
SEAL = Struct("<I")
MAGIC = b"SPEARSEQ"
SLOT_BYTES = SLOT.size + SEAL.size
STRIDE = 512  # a sector each


class Watermark:
    """The file in the store's folder, open for writing."""

    def __init__(self, folder: str, sequence: int) -> None:
        """Made if it is missing; stands at `sequence` then, safely."""
        path = os.path.join(folder, NAME)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._slot = 0
        for _ in range(2):
            self.advance(sequence)
        os.fsync(self._descriptor)
        sync_folder(folder)

    def advance(self, sequence: int) -> None:
        """One pwrite, about 2 us: it reaches the operating system, so it survives the process."""
        slot = SLOT.pack(MAGIC, sequence)
        os.pwrite(self._descriptor, slot + SEAL.pack(crc32(slot)), self._slot * STRIDE)
        self._slot = 1 - self._slot

    def close(self) -> None:
        """Synced, so that after a clean end it is exact."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def read_watermark(folder: str) -> int | None:
    """The mark; None where there is no file; -1 where neither slot can be read."""
    try:
        with open(os.path.join(folder, NAME), "rb") as file:
            data = file.read(2 * STRIDE)
    except FileNotFoundError:
        return None
    return max(_slot(data[at : at + SLOT_BYTES]) for at in (0, STRIDE))


def _slot(data: bytes) -> int:
    if len(data) != SLOT_BYTES or SEAL.unpack(data[SLOT.size :])[0] != crc32(data[: SLOT.size]):
        return -1
    magic, sequence = SLOT.unpack(data[: SLOT.size])
    return int(sequence) if magic == MAGIC else -1

"""How far the store has told that writes are safe, kept outside of the store.

The rule: the mark is moved after a flush, never ahead. It is written and not synced: after a power
cut it may be old, which hides damage but never invents it.

RocksDB takes two kinds of damage for the end of a file: a record of the log that does not match its
checksum, and one of the manifest (which tells the files of the store) that would end behind the
file's end. It opens then without what follows. So the mark has the last safe sequence number, which
must be found again, and the bytes of the manifest, in which whole records must be found again;
that is looked at before RocksDB opens it, since it deletes the files that its manifest lacks.

Two slots are written by turns, so that one torn write leaves the other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from spear.errors import KvDamaged
from spear.kv.archive import sync_folder

NAME = "SPEAR-SYNCED"
MAGIC = b"SPEARSEQ"
SLOT = Struct("<8sQ24sQ")  # magic, sequence, manifest's name and bytes
SEAL = Struct("<I")
SLOT_BYTES = SLOT.size + SEAL.size
STRIDE = 512  # a sector each

# RocksDB's log format: blocks of records, each a head (checksum, length, type) and its bytes; what
# is too small for a head at the end of a block is zeros.
LOG_BLOCK_BYTES = 32768
LOG_HEAD_BYTES = 7


@dataclass(frozen=True)
class Mark:
    sequence: int
    manifest: str
    manifest_bytes: int


class Watermark:
    """The mark of an open store. Made, and once moved by `advance`, it is on the disk or on its
    way; used by one thread at a time. Raises OSError."""

    def __init__(self, folder: str, sequence: int) -> None:
        self._manifest = manifest_name(folder)
        self._slot = 0
        path = os.path.join(folder, NAME)
        self.tables = os.open(os.path.join(folder, self._manifest), os.O_RDONLY | os.O_CLOEXEC)
        self._file = -1
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            found = self.tables_bytes()
            os.fdatasync(self.tables)
            for _ in range(2):
                self.advance(sequence, found)
            os.fsync(self._file)
            sync_folder(folder)
        except BaseException:
            self._release()
            raise

    def tables_bytes(self) -> int:
        """Of the manifest now, whose descriptor is `tables`."""
        return os.fstat(self.tables).st_size

    def advance(self, sequence: int, tables_bytes: int) -> None:
        """Both are on the disk. About 3 us: the mark reaches the operating system, so it survives
        the process."""
        slot = SLOT.pack(MAGIC, sequence, self._manifest.encode(), tables_bytes)
        os.pwrite(self._file, slot + SEAL.pack(crc32(slot)), self._slot * STRIDE)
        self._slot = 1 - self._slot

    def close(self) -> None:
        """Synced, so that after a clean end it is exact. Closing again does nothing."""
        if self.tables < 0:
            return
        try:
            os.fsync(self._file)
        finally:
            self._release()

    def _release(self) -> None:
        for descriptor in (self._file, self.tables):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self.tables = -1


def read_mark(folder: str) -> Mark | None:
    """None where there is no file. Raises KvDamaged where neither slot can be read, and where the
    manifest lacks what it had."""
    try:
        with open(os.path.join(folder, NAME), "rb") as file:
            data = file.read(2 * STRIDE)
    except FileNotFoundError:
        return None
    marks = [mark for at in (0, STRIDE) if (mark := _slot(data[at : at + SLOT_BYTES]))]
    if not marks:
        raise KvDamaged(
            f"the metadata store {folder!r} cannot read how far its writes were safe ({NAME}): "
            "restore a backup, or give up what is lost by `spear node accept-loss`"
        )
    mark = max(marks, key=lambda mark: mark.sequence)
    _check_manifest(folder, mark)
    return mark


def manifest_name(folder: str) -> str:
    """The manifest in use, by RocksDB's file CURRENT; "" where that does not tell."""
    try:
        with open(os.path.join(folder, "CURRENT"), "rb") as file:
            return file.read(24).decode("ascii", "replace").rstrip("\n")
    except FileNotFoundError:
        return ""


def whole_records_end(data: bytes) -> int:
    """Where the last record ends that lies in its block and in the file."""
    at = end = 0
    while at + LOG_HEAD_BYTES <= len(data):
        left = LOG_BLOCK_BYTES - at % LOG_BLOCK_BYTES
        if left < LOG_HEAD_BYTES:
            at += left
            continue
        size = LOG_HEAD_BYTES + int.from_bytes(data[at + 4 : at + 6], "little")
        if size > left or at + size > len(data):
            break
        at = end = at + size
    return end


def _check_manifest(folder: str, mark: Mark) -> None:
    """RocksDB makes a new manifest whenever it opens a store; of another than the mark's nothing is
    known."""
    if manifest_name(folder) != mark.manifest:
        return
    try:
        with open(os.path.join(folder, mark.manifest), "rb") as file:
            found = whole_records_end(file.read())
    except FileNotFoundError:
        found = 0
    if found < mark.manifest_bytes:
        raise KvDamaged(
            f"the metadata store {folder!r} had {mark.manifest_bytes} bytes of {mark.manifest}, "
            f"and {found} of them can be read: restore a backup, or give up what is lost by "
            "`spear node accept-loss`"
        )


def _slot(data: bytes) -> Mark | None:
    if len(data) != SLOT_BYTES or SEAL.unpack(data[SLOT.size :])[0] != crc32(data[: SLOT.size]):
        return None
    magic, sequence, manifest, manifest_bytes = SLOT.unpack(data[: SLOT.size])
    if magic != MAGIC:
        return None
    return Mark(sequence, manifest.rstrip(b"\0").decode("ascii", "replace"), manifest_bytes)

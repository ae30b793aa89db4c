"""The file of a backup: rows in order, and at its end their count and a SHA-256 of all before.

The rule: a file under its final name is whole; what was not finished has another name or none. A
reader trusts nothing before the digest, and allocates at most a row at a time.

    "SPEARKV\\n", version, sequence | key length, value length, key, value | ... | 0, count, SHA-256
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import BinaryIO

from spear.errors import AlreadyExists, KvDamaged, KvError, KvFormat, KvFull, NotFound
from spear.kv.batch import KEY_BYTES_MAX, VALUE_BYTES_MAX

MAGIC = b"SPEARKV\n"
VERSION = 1
HEAD = Struct("<8sIQ")
LENGTHS = Struct("<II")
TAIL = Struct("<IQ")  # a key length of 0 ends the rows, then how many they are
DIGEST_BYTES = 32

Row = tuple[bytes, bytes]


@dataclass(frozen=True)
class ArchiveInfo:
    """What a whole archive holds; `sequence` is that of the last write it has seen."""

    rows: int
    sequence: int
    digest: str


class ArchiveWriter:
    """Writes beside `path` and gives the file its name when it is whole and synced."""

    def __init__(self, path: str, sequence: int) -> None:
        self._path = os.path.abspath(path)
        if os.path.lexists(self._path):
            raise AlreadyExists(f"the backup {path!r} is already there: name another file")
        folder, name = os.path.split(self._path)
        with _os_errors("write", path):
            descriptor, self._partial = tempfile.mkstemp(prefix=f"{name}.partial-", dir=folder)
        self._file = os.fdopen(descriptor, "wb")
        self._digest, self._rows = sha256(), 0
        self._write(HEAD.pack(MAGIC, VERSION, sequence))

    def add(self, rows: Iterable[Row]) -> None:
        parts: list[bytes] = []
        for key, value in rows:
            parts += (LENGTHS.pack(len(key), len(value)), key, value)
            self._rows += 1
        self._write(b"".join(parts))

    def finish(self) -> None:
        """Raises AlreadyExists where somebody took the name meanwhile."""
        self._write(TAIL.pack(0, self._rows))
        with _os_errors("write", self._path):
            self._file.write(self._digest.digest())
            self._file.flush()
            os.fsync(self._file.fileno())
            os.link(self._partial, self._path)
        self.abandon()
        sync_folder(os.path.dirname(self._path))

    def abandon(self) -> None:
        """Removes what is not finished; never fails."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._partial)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        with _os_errors("write", self._path):
            self._file.write(data)


async def write_archive(path: str, sequence: int, chunks: Iterable[list[Row]]) -> None:
    """The file is written in another thread; `chunks` is asked on the loop's, piece by piece."""
    writer = await asyncio.to_thread(ArchiveWriter, path, sequence)
    try:
        for rows in chunks:
            await asyncio.to_thread(writer.add, rows)
        await asyncio.to_thread(writer.finish)
    except BaseException:
        writer.abandon()
        raise


def verify(path: str) -> ArchiveInfo:
    """Reads it all. Raises NotFound, KvDamaged, KvFormat."""
    with _opened(path) as file:
        reader = _Reader(path, file)
        for _ in reader.rows():
            pass
        return reader.info()


def read_archive(path: str) -> Iterator[Row]:
    """The rows; whether they are what was written is known only once the last was taken."""
    with _opened(path) as file:
        yield from _Reader(path, file).rows()


class _Reader:
    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._digest, self._rows = sha256(), 0
        magic, version, self._sequence = HEAD.unpack(self._take(HEAD.size))
        if magic != MAGIC:
            raise self._damaged("it does not begin as a backup does")
        if version != VERSION:
            raise KvFormat(
                f"the backup {path!r} has version {version}, this SPEAR reads {VERSION}: "
                "use the SPEAR that wrote it, or a newer one"
            )

    def rows(self) -> Iterator[Row]:
        while True:
            key_bytes = int.from_bytes(self._take(4), "little")
            if not key_bytes:
                break
            value_bytes = int.from_bytes(self._take(4), "little")
            if key_bytes > KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
                raise self._damaged(f"row {self._rows} is longer than a row can be")
            key = self._take(key_bytes)
            self._rows += 1
            yield key, self._take(value_bytes)
        self._end()

    def info(self) -> ArchiveInfo:
        return ArchiveInfo(self._rows, self._sequence, self._digest.hexdigest())

    def _end(self) -> None:
        count = int.from_bytes(self._take(8), "little")
        written = self._file.read(DIGEST_BYTES)
        if count != self._rows or written != self._digest.digest() or self._file.read(1):
            raise self._damaged(
                f"its {self._rows} rows do not match the count and digest at its end"
            )

    def _take(self, count: int) -> bytes:
        with _os_errors("read", self._path):
            data = self._file.read(count)
        if len(data) != count:
            raise self._damaged("it ends too early")
        self._digest.update(data)
        return data

    def _damaged(self, found: str) -> KvDamaged:
        return KvDamaged(f"the backup {self._path!r} is damaged, {found}: use another backup")


def sync_folder(path: str) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: str) -> BinaryIO:
    with _os_errors("read", path):
        return open(path, "rb")


@contextlib.contextmanager
def _os_errors(verb: str, path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise AlreadyExists(f"the backup {path!r} is already there: name another file") from error
    except FileNotFoundError as error:
        raise NotFound(f"cannot {verb} the backup {path!r}: no such file or folder") from error
    except OSError as error:
        kind = KvFull if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else KvError
        raise kind(f"cannot {verb} the backup {path!r}: {error.strerror}") from error

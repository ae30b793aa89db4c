"""What can still be read of a damaged store, as a whole store in its place.

The rule: a damaged row is never changed and never dropped in silence. Whole rows are copied into
a new store, the damaged one stays under another name, and what was lost is told by its key, or as
the range that it lies in. It can be cut short anywhere and goes on when it is called again. What is
told stands in the new store's folder before that has its place, so it can still be told then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from spear.errors import KvDamaged, KvError
from spear.kv.archive import Row, sync_folder
from spear.kv.batch import Batch
from spear.kv.engine import FIRST_KEY, translated
from spear.kv.rocks import RocksKv, open_rocks
from spear.kv.rows import unseal

if TYPE_CHECKING:
    from rocksdict import RdictIter

BATCH_ROWS, BATCH_BYTES = 1000, 4 << 20
_MAKING, _WHOLE, _DAMAGED = ".salvaging", ".salvaged", ".damaged"


LOST = "SPEAR-LOST"  # in the folder of a store that was salvaged, as JSON


class Salvaged(msgspec.Struct, frozen=True):
    """How many rows are there now; what was lost, in words; the folder that has what it was, ""
    where no row was damaged."""

    rows: int
    lost: list[str]
    kept_in: str


def lost_before(path: str) -> str:
    """The file that says what was given up when this store was last salvaged; "" where it never
    was."""
    told = os.path.join(path, LOST)
    return told if os.path.exists(told) else ""


def check_salvaged(path: str) -> None:
    """Raises KvDamaged where a salvage was cut short as it put the new store in its place."""
    if not os.path.lexists(path) and os.path.isdir(path + _WHOLE):
        raise KvDamaged(
            f"the metadata store {path!r} was salvaged and is not in its place yet: call "
            "`spear node accept-loss` once more"
        )


async def salvage(path: str) -> Salvaged:
    """Gives up what the store at `path` has lost; nobody else may use it. Raises KvLocked,
    KvFormat, KvFull, KvError, and KvDamaged where it cannot even be opened."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.lexists(path) and os.path.isdir(path + _WHOLE):
        _rename(path + _WHOLE, path, folder)
        if (told := _told(path)) is not None:
            return told
    kv = open_rocks(path, accept_loss=True)
    try:
        found = _Readable(kv)
        for _ in found:
            pass
        if not found.lost:
            return Salvaged(found.rows, [], "")
        for left in (path + _MAKING, path + _WHOLE):
            shutil.rmtree(left, ignore_errors=True)
        found = _Readable(kv)  # what is told is of the pass that copies
        told = await _fill(path + _MAKING, found, _free_name(path + _DAMAGED))
    finally:
        await kv.close()
    _rename(path + _MAKING, path + _WHOLE, folder)
    _rename(path, told.kept_in, folder)
    _rename(path + _WHOLE, path, folder)
    return told


class _Readable:
    """The whole rows of a store, in no order; `lost` tells of the others once all were given.

    In a block whose checksum fails neither keys nor deletions can be believed: where one lies in
    the way, all from the last row before it to the first one behind it is left out and told, since
    it may be missing, be of before, or have been deleted."""

    def __init__(self, kv: RocksKv) -> None:
        self._kv = kv
        self.rows = 0
        self.lost: list[str] = []

    def __iter__(self) -> Iterator[Row]:
        last, cursor = b"", self._kv.cursor(checked=True)
        cursor.seek(FIRST_KEY)
        while True:
            while cursor.valid():
                last = cursor.key()
                yield from self._whole(last, cursor.value())
                cursor.next()
            if _is_well(cursor):
                return
            if not self._pass_by(cursor, last):
                break
            self._tell(last, cursor.key())
        yield from self._backward(cursor, last)

    def _pass_by(self, cursor: RdictIter, last: bytes) -> bool:
        """Takes the cursor to the first place behind `last` that can be read, if what cannot be
        read has the names of such places: they are only tried, not believed."""
        names = self._kv.cursor(checked=False)
        names.seek(max(FIRST_KEY, last + b"\0"))
        while names.valid():
            if (name := names.key()) > last:
                cursor.seek(name)
                if cursor.valid():
                    return True
            names.next()
        return False

    def _backward(self, cursor: RdictIter, last: bytes) -> Iterator[Row]:
        first = b""
        cursor.seek_to_last()
        while cursor.valid() and cursor.key() > max(last, FIRST_KEY):
            first = cursor.key()
            yield from self._whole(first, cursor.value())
            cursor.prev()
        self._tell(last, first)

    def _tell(self, last: bytes, first: bytes) -> None:
        begin = f"behind {_whole_key(last)}" if last else "from the beginning"
        end = f"before {_whole_key(first)}" if first else "to the end"
        self.lost.append(f"all {begin} {end}")

    def _whole(self, key: bytes, stored: bytes) -> Iterator[Row]:
        try:
            value = unseal(key, stored)
        except KvDamaged:
            self.lost.append(_whole_key(key))
            return
        self.rows += 1
        yield key, value


def _is_well(cursor: RdictIter) -> bool:
    try:
        cursor.status()
    except Exception:  # whatever it is that cannot be read
        return False
    return True


def _whole_key(key: bytes) -> str:
    """Not cut, as sentences have it: long keys often differ at their end alone."""
    return f"key {key!r}"


async def _fill(path: str, found: _Readable, kept_in: str) -> Salvaged:
    """A new store at `path`; where it cannot be made nothing is left of it, as on a full disk."""
    try:
        await _copy(path, found)
        told = Salvaged(found.rows, found.lost, kept_in)
        _tell(path, told)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return told


def _tell(path: str, told: Salvaged) -> None:
    """Survives a power cut when this returns."""
    text = msgspec.json.format(msgspec.json.encode(told))
    try:
        file = os.open(os.path.join(path, LOST), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "wb") as writer:
            writer.write(text)
            writer.flush()
            os.fsync(file)
        sync_folder(path)
    except OSError as error:
        raise translated(error, f"writing what is lost of {path!r}") from error


def _told(path: str) -> Salvaged | None:
    """None where it cannot be read, as of a store that an earlier version made."""
    try:
        with open(os.path.join(path, LOST), "rb") as file:
            return msgspec.json.decode(file.read(), type=Salvaged)
    except (OSError, msgspec.MsgspecError):
        return None


async def _copy(path: str, found: _Readable) -> None:
    kv: RocksKv = open_rocks(path)
    try:
        batch = Batch()
        for key, value in found:
            batch.put(key, value)
            if len(batch.changes) >= BATCH_ROWS or batch.bytes >= BATCH_BYTES:
                kv.write(batch)
                batch = Batch()
        await kv.commit(batch)
    finally:
        await kv.close()


def _free_name(path: str) -> str:
    number, name = 1, path
    while os.path.lexists(name):
        number += 1
        name = f"{path}-{number}"
    return name


def _rename(path: str, to: str, folder: str) -> None:
    try:
        os.rename(path, to)
        sync_folder(folder)
    except OSError as error:
        raise KvError(f"cannot rename {path!r} to {to!r}: {error.strerror}") from error

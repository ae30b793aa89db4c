"""A cursor that goes on behind what cannot be read, and says what it left out.

The rule: where RocksDB finds the checksum of a block wrong neither its keys nor its deletions are
believed. All between the last row before it and the first one behind it that can be read is left
out, and told as one range. The way past it is found by trying places, ever farther off, then ever
closer; so it depends on nothing that stands in the block. Each with a cursor of its own: one that
has met a bad block may go on to report it elsewhere. Of two such blocks close to each other what
lies between may be passed over with them; backwards the row just behind one is, since RocksDB looks
for its older versions there. Both are in the range that is told.
"""

from __future__ import annotations

from collections.abc import Callable

from rocksdict import RdictIter

from spear.errors import KvDamaged
from spear.kv import engine
from spear.kv.batch import shown
from spear.kv.rows import prefix_end

_PLACE_BYTES = 16  # of a key behind its prefix, by which places are told apart
_PLACES = 1 << 8 * _PLACE_BYTES

Damaged = Callable[[bytes, KvDamaged], None]


class PastDamage:
    """Over the rows under `prefix`, in one direction once it was placed. `damaged` is told of each
    range the key that it lies behind (the prefix, of one at the beginning), and the error."""

    def __init__(self, opened: Callable[[], RdictIter], prefix: bytes, damaged: Damaged) -> None:
        self._opened, self._prefix, self._damaged = opened, prefix, damaged
        self._cursor: RdictIter | None = None  # nothing more can be read
        self._last = b""  # the last key that could be read, or where it was placed
        self._reverse = False

    def valid(self) -> bool:
        return self._cursor is not None and self._cursor.valid()

    def key(self) -> bytes:
        assert self._cursor is not None
        found: bytes = self._cursor.key()
        return found

    def value(self) -> bytes:
        assert self._cursor is not None
        found: bytes = self._cursor.value()
        return found

    def seek(self, key: bytes) -> None:
        self._last, self._reverse = key.removesuffix(b"\0"), False  # it may be just behind one
        self._begun().seek(key)
        self._go_on()

    def seek_for_prev(self, key: bytes) -> None:
        self._last, self._reverse = key, True
        self._begun().seek_for_prev(key)
        self._go_on()

    def seek_to_last(self) -> None:
        self._last, self._reverse = b"", True
        self._begun().seek_to_last()
        self._go_on()

    def next(self) -> None:
        assert self._cursor is not None
        self._last = self._cursor.key()
        self._cursor.next()
        self._go_on()

    def prev(self) -> None:
        assert self._cursor is not None
        self._last = self._cursor.key()
        self._cursor.prev()
        self._go_on()

    def status(self) -> None:
        """What it met was told."""

    def _begun(self) -> RdictIter:
        self._cursor = cursor = self._opened()
        return cursor

    def _go_on(self) -> None:
        assert self._cursor is not None
        if self._cursor.valid():
            return
        error = _error_of(self._cursor)
        if error is None:
            return
        failure = engine.translated(error, f"scanning {self._prefix!r}")
        if not isinstance(failure, KvDamaged):
            raise failure
        self._cursor = self._way()
        self._tell(failure)

    def _way(self) -> RdictIter | None:
        """The place that can be read next, of those tried; None: there is none in the prefix.
        Places grow with the distance from the last key, in either direction."""
        near, far = 0, 1
        while (found := self._tried(far)) is None:
            if far >= _PLACES:
                return None
            near, far = far, far * 2
        while far - near > 1:
            middle = (near + far) // 2
            if (nearer := self._tried(middle)) is None:
                near = middle
            else:
                far, found = middle, nearer
        return found

    def _tried(self, distance: int) -> RdictIter | None:
        """A cursor there, or at the end; None where it cannot be read."""
        place, cursor = self._place(distance), self._opened()
        if place is None:
            cursor.seek_to_last()
            if cursor.valid():
                cursor.next()
        elif self._reverse:
            cursor.seek_for_prev(place)
        else:
            cursor.seek(place)
        return cursor if cursor.valid() or _error_of(cursor) is None else None

    def _place(self, distance: int) -> bytes | None:
        """None: beyond all keys."""
        begin = self._number(self._last)
        at = begin - distance if self._reverse else begin + distance
        if at < 0:
            return self._prefix
        if at >= _PLACES:
            return prefix_end(self._prefix)
        return self._prefix + at.to_bytes(_PLACE_BYTES, "big")

    def _number(self, key: bytes) -> int:
        if not key or not key.startswith(self._prefix):
            return _PLACES if self._reverse else 0
        rest = key[len(self._prefix) :][:_PLACE_BYTES]
        return int.from_bytes(rest.ljust(_PLACE_BYTES, b"\0"), "big")

    def _tell(self, failure: KvDamaged) -> None:
        found = self._cursor.key() if self._cursor is not None and self._cursor.valid() else b""
        if not found.startswith(self._prefix):
            found = b""
        last = self._last if self._last.startswith(self._prefix) else b""
        if last == self._prefix:  # where it was placed
            last = b""
        first, behind = (found, last) if self._reverse else (last, found)
        begin = f"behind {shown(first)}" if first else "from the beginning"
        end = f"before {shown(behind)}" if behind else "to the end"
        self._damaged(first or self._prefix, KvDamaged(f"all {begin} {end}: {failure}"))


def _error_of(cursor: RdictIter) -> Exception | None:
    try:
        cursor.status()
    except Exception as error:  # whatever it is that cannot be read
        return error.with_traceback(None)  # its frames would keep the cursor, and that the lock
    return None

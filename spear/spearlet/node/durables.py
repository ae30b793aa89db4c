"""What is known of the objects that have a row: by key, in order, with the bytes that they take.

The rule: what is known of one is never changed, only replaced, so a copy of the list is how things
were when it was made. A page of it, whether a file is needed and what there is room for cost the
same however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import msgspec

from spear.errors import StoreFull
from spear.kv.rows import prefix_end
from spear.records.objects import ObjectInfo
from spear.units import format_size

# What one takes beside key, value and metadata, in the store and in the node's memory.
ROW_BYTES = 1024
_KEY = attrgetter("key")


class Kept(msgspec.Struct, frozen=True):
    """`digest`: of its file, "" if the value is in the row; `info`: the object as it was then.
    `away`: it is not in the table, as far as is known because there was no room. `row`: a number
    for each time that its row was written."""

    key: bytes
    digest: str
    info: ObjectInfo
    row: int
    away: bool = False


class Durables(dict[bytes, Kept]):
    """Changed by `[]` and `del` alone; `bytes_max` is what `room_for` goes by. `tell_room` is told
    how many bytes, key and value, of a new one there is room for; below 0: for none."""

    def __init__(self, bytes_max: int, tell_room: Callable[[int], None]) -> None:
        super().__init__()
        self.bytes_max = bytes_max
        self._bytes_taken = 0
        self._bytes_coming = 0  # of files that are being written
        self._tell_room = tell_room
        self.digests: Counter[str] = Counter()  # how many need a file
        self._ordered: list[Kept] = []
        self._rows = 0
        self._tell()

    def __setitem__(self, key: bytes, kept: Kept) -> None:
        before = self.get(key)
        if before is None:
            insort(self._ordered, kept, key=_KEY)
        else:
            self._ordered[self._at(key)] = kept
            self._take(before, -1)
        self._take(kept, 1)
        super().__setitem__(key, kept)

    def __delitem__(self, key: bytes) -> None:
        before = self[key]
        super().__delitem__(key)
        del self._ordered[self._at(key)]
        self._take(before, -1)

    def _at(self, key: bytes) -> int:
        return bisect_left(self._ordered, key, key=_KEY)

    def _take(self, kept: Kept, count: int) -> None:
        self.digests[kept.digest] += count
        if not self.digests[kept.digest]:
            del self.digests[kept.digest]
        self._bytes_taken += count * _bytes_of(kept.key, kept.info.size, kept.info.metadata)
        self._tell()

    def coming(self, count: int) -> None:
        """So many bytes more are about to be kept; less than 0: they came, or never will."""
        self._bytes_coming += count
        self._tell()

    def _tell(self) -> None:
        self._tell_room(self.bytes_max - self._bytes_taken - self._bytes_coming - ROW_BYTES)

    def next_row(self) -> int:
        self._rows += 1
        return self._rows

    def same_row(self, kept: Kept) -> bool:
        """Whether its row is still the one that it was."""
        now = self.get(kept.key)
        return now is not None and now.row == kept.row

    def room_for(self, key: bytes, size: int, metadata: Mapping[str, str]) -> int:
        """The bytes that this would take. Raises StoreFull where there are not so many; what takes
        no more than before always has room."""
        wanted, before = _bytes_of(key, size, metadata), self.get(key)
        more = wanted
        if before is not None:
            more -= _bytes_of(key, before.info.size, before.info.metadata)
        if more > 0 and self._bytes_taken + self._bytes_coming + more > self.bytes_max:
            raise StoreFull(
                f"object {key.decode('utf-8', 'replace')!r} is not kept: durable objects take "
                f"{self._bytes_taken + self._bytes_coming} bytes, this one {more} more, and "
                f"objects.durable_size is {format_size(self.bytes_max)}: delete some, or raise it"
            )
        return wanted

    def behind(self, key: bytes, limit: int) -> Sequence[Kept]:
        """The first so many whose keys are greater."""
        at = bisect_right(self._ordered, key, key=_KEY)
        return self._ordered[at : at + limit]

    def under(self, start: bytes) -> Sequence[Kept]:
        """All whose keys begin so, as they are now: a copy of pointers."""
        end = prefix_end(start)
        return self._ordered[self._at(start) : None if end is None else self._at(end)]

    def first_under(self, start: bytes, after: bytes) -> int:
        """The place of the first one whose key begins so and is greater than `after`, if any."""
        return max(self._at(start), bisect_right(self._ordered, after, key=_KEY))

    def at(self, place: int) -> Kept | None:
        return self._ordered[place] if place < len(self._ordered) else None


def _bytes_of(key: bytes, size: int, metadata: Mapping[str, str]) -> int:
    texts = "".join(part for pair in metadata.items() for part in pair)
    return ROW_BYTES + len(key) + size + len(texts.encode("utf-8", "surrogatepass"))

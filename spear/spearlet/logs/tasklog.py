"""The log of one task on disk: a rotating file, and an index beside each of its files.

The rule: one owner in one thread; it opens itself when used and may be closed at any time. That it
cannot be written is told once to the system log, and that it can again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from spear.clock import Clock
from spear.spearlet.logs import index as index_of
from spear.spearlet.logs.index import LINES, TOMBSTONE, FileIndex, key_of
from spear.spearlet.logs.lines import began_of, encode_tombstone, file_header
from spear.telemetry.jsonlog import Log
from spear.telemetry.rotating import Limits, Place, RotatingFile

_SCAN_BYTES = 1 << 20
_RETRY_NS = 10**9  # a directory that cannot be opened is tried once a second
NAME = "log.jsonl"


class TaskLog:
    """`opened` is called when it takes a descriptor; `close` gives it back."""

    __slots__ = (
        "__weakref__", "_clock", "_failed", "_file", "_folder", "_index", "_index_generation",
        "_log", "_opened", "_retry_ns", "lost",
    )  # fmt: skip

    def __init__(
        self, folder: str, limits: Limits, clock: Clock, log: Log,
        opened: Callable[[TaskLog], None],
    ) -> None:  # fmt: skip
        self._folder, self._clock, self._log, self._opened = folder, clock, log, opened
        path, endings = os.path.join(folder, NAME), (index_of.ENDING,)
        self._file = RotatingFile(
            path, limits, clock, began_of, file_header, self._save, endings
        )  # fmt: skip
        self._index, self._index_generation = FileIndex(), 0
        self._failed: OSError | None = None
        self._retry_ns = 0
        self.lost = 0  # lines, since it last could be written

    def append(self, key: int, lines: bytes, count: int, kind: int = LINES) -> Place:
        """Writes `count` whole lines of one execution. Raises OSError, and then none of them is
        kept and they count as lost."""
        try:
            self._open()
            place = self._file.write(lines)
        except OSError as error:
            self._fail(error, count)
            raise
        if self._failed is not None:
            self._recover()
        if place.generation != self._index_generation:
            self._index, self._index_generation = FileIndex(), place.generation
        self._index.add(key, place.start, place.end, kind)
        return place

    def remove(self, execution_id: str, head: bytes) -> None:
        """Its lines are not found any more; they go when their files do. Raises OSError."""
        if self.find(head):
            self.append(key_of(head), encode_tombstone(execution_id), 0, TOMBSTONE)

    def find(self, head: bytes) -> list[Place]:
        """Where the lines of an execution may lie. Raises OSError."""
        if not os.path.isdir(self._folder):
            return []
        self._open()
        places: list[Place] = []
        key = key_of(head)
        for generation in self._file.generations:
            for kind, start, end in self._index_for(generation).find(key):
                if kind == LINES:
                    places.append(Place(generation, start, end))
                elif self.read(generation, start, end - start).startswith(head):
                    places.clear()
        return places

    def read(self, generation: int, start: int, count: int) -> bytes:
        """Raises OSError; FileNotFoundError where the file has gone."""
        return self._file.read(generation, start, count)

    def sweep(self) -> int:
        """Removes what is older than the retention, and the folder of an empty log; how many files
        went. Raises OSError."""
        opened = self._file.opened
        try:
            gone = self._file.sweep()
            self._file.remove_folder()
            return gone
        finally:
            if not opened:
                self._file.close()

    @property
    def oldest_generation(self) -> int:
        return self._file.generations[0]

    @property
    def oldest_ns(self) -> int:
        """When its oldest file but the written one began; now, where there is none."""
        found = self._file.oldest_ns
        return self._clock.now_ns() if found is None else found

    def remove_oldest(self) -> None:
        """Raises OSError."""
        opened = self._file.opened
        self._file.remove_oldest()
        if not opened:
            self._file.close()

    def disk_bytes(self) -> int:
        """Of its files, indexes included. Raises OSError."""
        with os.scandir(self._folder) as entries:
            return sum(entry.stat().st_size for entry in entries)

    def close(self) -> None:
        """Lets go of its descriptor, and keeps its index on disk."""
        if self._file.opened:
            if self._file.size:
                self._save(self._file.generation)
            self._file.close()
        self._index, self._index_generation = FileIndex(), 0

    def _open(self) -> None:
        if self._file.opened:
            return
        if self._failed is not None and self._clock.monotonic_ns() < self._retry_ns:
            raise OSError(self._failed.errno, os.strerror(self._failed.errno or 0))
        self._file.open()
        generation = self._file.generation
        if self._index_generation != generation:
            try:
                index = self._load(generation)
            except OSError:
                self._file.close()  # what is written behind a hole in the index would not be found
                raise
            self._index, self._index_generation = index, generation
        self._opened(self)

    def _index_for(self, generation: int) -> FileIndex:
        if generation == self._index_generation:
            return self._index
        try:
            return self._load(generation)
        except FileNotFoundError:
            return FileIndex()

    def _load(self, generation: int) -> FileIndex:
        """The index as saved, and what it misses read from the file."""
        path = self._file.path(generation)
        size = os.stat(path).st_size
        index = FileIndex.load(self._index_path(generation), size)
        while index.covered < size:
            data = self.read(generation, index.covered, min(_SCAN_BYTES, size - index.covered))
            index.add_file(data, index.covered)
        if generation != self._file.generation:
            _save(index, self._index_path(generation))
        return index

    def _save(self, generation: int) -> None:
        if generation == self._index_generation:
            _save(self._index, self._index_path(generation))

    def _index_path(self, generation: int) -> str:
        return self._file.path(generation, rotated=True) + index_of.ENDING

    def _fail(self, error: OSError, count: int) -> None:
        self._retry_ns = self._clock.monotonic_ns() + _RETRY_NS
        self.lost += count
        if self._failed is None:
            self._log.error("task log cannot be written", folder=self._folder, error=error)
        self._failed = error

    def _recover(self) -> None:
        self._log.warn("task log is written again", folder=self._folder, lost=self.lost)
        self._failed, self.lost = None, 0


def _save(index: FileIndex, path: str) -> None:
    """Without one, the next reader makes it anew."""
    try:
        index.save(path)
    except OSError:
        return

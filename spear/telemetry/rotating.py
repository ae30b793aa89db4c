"""An append-only file of lines that rotates: NAME.log is written, NAME.000007.log are older ones.

The rule: a generation's number never changes, rotation is one rename, and a batch is in the file
whole or not at all. One owner in one thread. Written to the operating system and not synced (class
crash); a line that was torn by a death is cut off at the next open. How old a file is, its first
line says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from spear.clock import Clock

_SCAN_BYTES = 1 << 16
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_AGE_SHARES = 4  # a file is written for this share of the retention, so lines outlive it by that


class Limits(NamedTuple):
    """Of one rotating file: bytes of one file, older files, and their lines' age (0: no limit)."""

    file_bytes_max: int
    files_max: int
    age_ns_max: int = 0


class Place(NamedTuple):
    """Where bytes lie."""

    generation: int
    start: int
    end: int


class RotatingFile:
    """`header` makes the first line of a file from the Unix time in nanoseconds, `began` reads that
    time from a first line. `rotating` is told the generation that is about to end. Files with the
    endings of `companions` are removed together with an older file. Nothing is opened before it is
    needed, so a directory that cannot be written fails the first append, not the constructor."""

    __slots__ = (
        "_active", "_active_ns", "_began", "_clock", "_companions", "_fd", "_folder", "_header",
        "_limits", "_name", "_older_ns", "_rotating", "_stem", "_suffix", "_torn", "generation",
        "size",
    )  # fmt: skip

    def __init__(
        self, path: str, limits: Limits, clock: Clock,
        began: Callable[[bytes], int | None], header: Callable[[int], bytes] = lambda ns: b"",
        rotating: Callable[[int], None] = lambda generation: None,
        companions: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._active, self._limits, self._clock = path, limits, clock
        self._folder, name = os.path.split(path)
        self._stem, self._suffix = os.path.splitext(name)
        self._began, self._header = began, header
        self._rotating, self._companions = rotating, companions
        endings = "|".join(map(re.escape, companions))
        self._name = re.compile(
            rf"{re.escape(self._stem)}\.(\d{{6,18}}){re.escape(self._suffix)}({endings})?"
        )
        self._fd, self._torn = -1, False
        self._active_ns = 0  # when the written file began
        self._older_ns: dict[int, int] = {}  # when each older file did, oldest first
        self.generation, self.size = 1, 0

    def open(self) -> None:
        """Finds what is there, and cuts off a torn last line. Raises OSError."""
        if self._fd >= 0:
            return
        os.makedirs(self._folder or ".", 0o700, exist_ok=True)
        older, highest = self._found()
        self._older_ns = {number: self._file_ns(number) for number in older}
        self.generation = max(self.generation, highest)
        fd = os.open(self._active, _FLAGS, 0o600)
        try:
            self.size = _cut_torn_line(fd)
            self._active_ns = self._first_ns(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._torn = fd, False

    @property
    def opened(self) -> bool:
        return self._fd >= 0

    @property
    def generations(self) -> list[int]:
        """All there are, as of the last open, oldest first; the last one is being written."""
        return [*self._older_ns, self.generation]

    def append(self, lines: bytes) -> Place:
        """Writes whole lines, in this file whatever its size. Raises OSError, and then nothing of
        them is kept."""
        self.open()
        if self._torn:
            self._cut()
        if not self.size:
            self._active_ns = self._clock.now_ns()
            self._write(self._header(self._active_ns))
        start = self.size
        self._write(lines)
        return Place(self.generation, start, self.size)

    def write(self, lines: bytes) -> Place:
        """Appends, after a rotation where the file is full or old. Raises OSError."""
        self.open()
        if self.size and (self.size + len(lines) > self._limits.file_bytes_max or self._is_old()):
            self.rotate()
        return self.append(lines)

    def rotate(self) -> None:
        """Ends the written file; the next append begins another. Raises OSError."""
        self.open()
        if self._torn:
            self._cut()
        if not self.size:
            return
        self._rotating(self.generation)
        os.rename(self._active, self.path(self.generation, rotated=True))
        self.close()
        self._older_ns[self.generation] = self._active_ns
        self.generation, self.size = self.generation + 1, 0
        self._drop()

    def sweep(self) -> int:
        """Ends and removes what is older than the retention; how many went. Raises OSError."""
        self.open()
        if os.fstat(self._fd).st_nlink == 0:  # somebody else removed it
            self.close()
            self.open()
        before = len(self._older_ns)
        if self.size and self._is_old():
            self.rotate()
            before += 1
        self._drop()
        return before - len(self._older_ns)

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest file began; None where no file is older than the written one."""
        return next(iter(self._older_ns.values()), None)

    def remove_oldest(self) -> None:
        """Removes the oldest of the older files, the written one where there is no other. Raises
        OSError."""
        if not self._older_ns:
            self.rotate()
        if self._older_ns:
            self._remove(next(iter(self._older_ns)))

    def remove_folder(self) -> bool:
        """Removes the folder where no line is left in it. Raises OSError."""
        self.open()
        if self.size or self._older_ns:
            return False
        self.close()
        for name in os.listdir(self._folder):
            if name == os.path.basename(self._active) or self._name.fullmatch(name):
                os.unlink(os.path.join(self._folder, name))
        os.rmdir(self._folder)
        return True

    def path(self, generation: int, *, rotated: bool = False) -> str:
        if generation == self.generation and not rotated:
            return self._active
        return os.path.join(self._folder, f"{self._stem}.{generation:06}{self._suffix}")

    def read(self, generation: int, start: int, count: int) -> bytes:
        """Up to `count` bytes. Raises OSError; FileNotFoundError where it has been removed."""
        fd = os.open(self.path(generation), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(fd, count, start)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Lets go of the file; the next use opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._torn = False

    def _found(self) -> tuple[list[int], int]:
        """The older generations, and that of the written file: never one that had a companion."""
        names = [self._name.fullmatch(name) for name in os.listdir(self._folder or ".")]
        older = sorted(int(match[1]) for match in names if match and not match[2])
        marked = (int(match[1]) for match in names if match and match[2])
        return older, max([*marked, max(older, default=0) + 1])

    def _is_old(self) -> bool:
        age_ns = self._limits.age_ns_max // _AGE_SHARES
        return age_ns > 0 and self._active_ns < self._clock.now_ns() - age_ns

    def _drop(self) -> None:
        """Removes older files beyond the limits of count and age."""
        age_ns = self._limits.age_ns_max + self._limits.age_ns_max // _AGE_SHARES
        oldest_ns = self._clock.now_ns() - age_ns if age_ns else 0
        extra = len(self._older_ns) - self._limits.files_max
        for rank, (generation, began_ns) in enumerate(tuple(self._older_ns.items())):
            if rank < extra or began_ns < oldest_ns:
                self._remove(generation)

    def _remove(self, generation: int) -> None:
        path = self.path(generation, rotated=True)
        for name in (path, *(path + ending for ending in self._companions)):
            try:
                os.unlink(name)
            except FileNotFoundError:
                continue
        del self._older_ns[generation]

    def _file_ns(self, generation: int) -> int:
        """When an older file began."""
        with open(self.path(generation, rotated=True), "rb") as file:
            return self._first_ns(file.fileno())

    def _first_ns(self, fd: int) -> int:
        """What the first line says; where that is damaged, when the last one was written."""
        found = self._began(os.pread(fd, _SCAN_BYTES, 0).partition(b"\n")[0])
        return found if found is not None else os.fstat(fd).st_mtime_ns

    def _write(self, lines: bytes) -> None:
        try:
            written = os.write(self._fd, lines)
            while written < len(lines):  # a full disk takes a part first
                written += os.write(self._fd, memoryview(lines)[written:])
        except OSError:
            self._torn = True
            _ignoring_errors(self._cut)
            raise
        self.size += len(lines)


def _cut_torn_line(fd: int) -> int:
    """The size after what follows the last newline was cut off."""
    size = end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - _SCAN_BYTES)
        newline = os.pread(fd, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        os.ftruncate(fd, end)
    return end


def _ignoring_errors(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError:
        return

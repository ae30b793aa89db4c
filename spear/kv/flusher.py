"""Makes an open store safe from a power cut: a native thread syncs its logs itself.

The rule: what is to be synced is decided on the loop's thread, the only one that writes, before a
flush begins. RocksDB's own `SyncWAL` would do the same and needs the GIL before and behind it; what
it does besides is told in ADR 0025.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import weakref
from collections.abc import Callable

from spear._core.flushthread import FlushThread
from spear.kv.livelogs import LiveLogs
from spear.kv.watermark import Watermark

Ended = Callable[[OSError | None], None]


class Flusher:
    """Of one open store, on its loop's thread. Nobody keeps it but its owner: one that is dropped
    ends its thread."""

    def __init__(self, path: str, sequence: int, log_bytes: int) -> None:
        """`sequence` is the last write, which is safe. Raises OSError."""
        self._path = path
        self._loop: asyncio.AbstractEventLoop | None = None  # which hears of ends
        self._process = os.getpid()
        self._ended: Ended | None = None
        self._mark = Watermark(path, sequence)
        # Sequence number and bytes of the manifest (-1: of nothing that is known to be synced): of
        # the flush under way, of the last that is done, of the last that was noted.
        self._begun = self._safe = self._noted = sequence, -1
        try:
            self._logs = LiveLogs(path, log_bytes)
            try:
                self._thread = FlushThread()
            except BaseException:
                self._logs.close()
                raise
        except BaseException:
            self._mark.close()
            raise

    def begin(self, sequence: int, ended: Ended) -> None:
        """One at a time: makes safe what is written, which is up to `sequence`. `ended` is called
        on the loop that `listen` was told of, with why it is not safe. Raises OSError, and then
        none has begun."""
        try:
            files, folder = self._logs.unsafe()
            self._begun = sequence, (tables_bytes := self._mark.tables_bytes())
            if tables_bytes != self._safe[1]:  # RocksDB may be about to sync it
                files.append(self._mark.tables)
            self._thread.begin(files, folder)
        except MemoryError as error:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), self._path) from error
        self._ended = ended

    def note(self) -> None:
        """How far writes are safe, if it is further than what was noted. Raises OSError."""
        if self._safe != self._noted:
            self._mark.advance(*self._safe)
            self._noted = self._safe

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """The end of a flush is heard there from now on."""
        if loop is self._loop:
            return
        self._forget_loop()
        loop.add_reader(self._thread.descriptor, _hear, weakref.ref(self))
        self._loop = loop

    def stop(self) -> None:
        """Nobody hears of the flush under way."""
        self._forget_loop()

    def join(self) -> None:
        """Behind `stop`: returns after the flush under way; there is none any more. From any
        thread."""
        self._thread.close()

    def close(self) -> None:
        """Behind `join`; from any thread. Closing again does nothing."""
        self._logs.close()
        self._mark.close()

    def hear(self) -> None:
        number, ended = self._thread.ended(), self._ended
        if number is None or ended is None:
            return
        self._ended = None
        if number:
            ended(OSError(number, os.strerror(number), self._path))
            return
        try:
            self._logs.safe()
        except OSError as error:  # who waits must hear of it
            ended(error)
            return
        self._safe = self._begun
        ended(None)

    def _forget_loop(self) -> None:
        loop, self._loop = self._loop, None
        # A forked child shares what the loop watches with its parent, who would hear nothing more.
        if loop is not None and self._process == os.getpid():
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.remove_reader(self._thread.descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self._forget_loop()


def _hear(flusher: weakref.ref[Flusher]) -> None:
    found = flusher()
    if found is not None:
        found.hear()

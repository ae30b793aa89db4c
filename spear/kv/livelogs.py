"""The logs of an open store that may have writes which are not on the disk yet; and room behind the
end of the newest, so that a flush writes rows without the size of the file.

The rule: a log is left out of a flush only if it was in one before that began when there was a
newer log, or is gone. On the thread that writes the store this is certain: RocksDB writes to its
newest log alone, begins another within a write or while no write can go on, and never goes back;
and it deletes a log once all of its rows are in tables, synced. The folder, in which a log must be
found again, is synced with the first flush that knows of it.

A log is only made longer, by zeros that take no room on the disk; before RocksDB opens a store each
log is cut where they begin (`logs`). A file that grows costs its file system a commit of its
journal at each `fdatasync`: about a quarter of the time of a flush on ext4. RocksDB's own remedy is
to write over used logs: of those no one can tell what of them was written last.
"""

from __future__ import annotations

import os

from spear._core.folderwatch import FolderWatch
from spear.kv.logs import log_names


class LiveLogs:
    """Made when the store is open; used on the thread that writes it. Raises OSError."""

    def __init__(self, folder: str, log_bytes: int) -> None:
        """`log_bytes` is how long the newest log is made."""
        self._path, self._log_bytes = folder, log_bytes
        self._held: dict[str, int] = {}  # descriptors by name, from the first log to the newest
        self._newer = self._folder_due = True  # not looked at; not synced
        self._short = ""  # the newest, until it has its room
        self._watch = FolderWatch(folder)
        try:
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._watch.close()
            raise

    def unsafe(self) -> tuple[list[int], int]:
        """What the next flush must sync: descriptors of logs, in this order, and that of the folder
        behind them, or -1; they stay open until `safe`. About 1 us where there is no new log.
        Raises OSError."""
        if self._watch.changed():
            self._newer = True
        if self._newer:
            self._look()
            self._newer = False  # only now: else what failed would not be looked for again
        if self._short:
            self._make_room()
        return list(self._held.values()), self._folder if self._folder_due else -1

    def safe(self) -> None:
        """What `unsafe` gave last is synced."""
        self._folder_due = False
        for name in list(self._held)[:-1]:
            os.close(self._held.pop(name))

    def close(self) -> None:
        """Closing again does nothing."""
        self._watch.close()
        for descriptor in (*self._held.values(), self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._held.clear()
        self._folder = -1

    def _look(self) -> None:
        names = log_names(self._path)
        for name in self._held.keys() - set(names):
            os.close(self._held.pop(name))
        held = list(self._held)
        first = names.index(held[-1]) + 1 if held else 0
        for name in names[first:]:
            path = os.path.join(self._path, name)
            try:
                self._held[name] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            self._folder_due, self._short = True, name

    def _make_room(self) -> None:
        """A log that cannot be made longer is only slower; it is tried again."""
        try:
            newest = self._held[self._short]
            if os.fstat(newest).st_size < self._log_bytes:
                os.ftruncate(newest, self._log_bytes)
        except (KeyError, OSError):
            return
        self._short = ""

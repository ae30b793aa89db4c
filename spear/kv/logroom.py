"""Room behind the end of RocksDB's log: a flush then writes rows, without the size of the file.

The rule: a log is only made longer, on the thread that writes it, by zeros that take no room on the
disk; before RocksDB opens a store each log is cut where they begin (`logs`).

A file that grows costs its file system a commit of its journal at each `fdatasync`: about a quarter
of the time of a flush on ext4. RocksDB's own remedy is to write over used logs: of those no one can
tell what of them was written last.
"""

from __future__ import annotations

import contextlib
import os

from spear.kv.logs import log_names


class LogRoom:
    """Of an open store; used on the thread that writes it."""

    def __init__(self, folder: str, log_bytes: int) -> None:
        self._folder, self._log_bytes = folder, log_bytes
        self._newest, self._seen_ns = "", -1

    def make(self) -> None:
        """About 2 us where the folder has no new file. A log that is missed, or cannot be made
        longer, is only slower."""
        with contextlib.suppress(OSError):
            changed_ns = os.stat(self._folder).st_mtime_ns
            if changed_ns != self._seen_ns:
                self._lengthen(next(reversed(log_names(self._folder)), ""))
                self._seen_ns = changed_ns  # only now: else one that failed is not tried again

    def _lengthen(self, newest: str) -> None:
        if newest == self._newest:
            return
        path = os.path.join(self._folder, newest)
        if os.stat(path).st_size < self._log_bytes:
            os.truncate(path, self._log_bytes)
        self._newest = newest

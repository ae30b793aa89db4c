"""Room behind the end of RocksDB's log: a flush then writes rows, without the size of the file.

The rule: a log is only made longer, on the thread that writes it, by zeros that take no room on the
disk; and before RocksDB opens a store each log ends where zeros stand for a record. RocksDB skips
them and reads on, and after a power cut what is behind them may have reached the disk before what
is missing.

A file that grows costs its file system a commit of its journal at each `fdatasync`: about a quarter
of the time of a flush on ext4. (RocksDB's own remedy, used logs written over, it refuses to have
beside recovery up to the first record that is not whole.)
"""

from __future__ import annotations

import contextlib
import os
from io import RawIOBase

from spear.kv.watermark import LOG_BLOCK_BYTES, LOG_HEAD_BYTES


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
                self._seen_ns = changed_ns
                self._lengthen(max(log_names(self._folder), default=""))

    def _lengthen(self, newest: str) -> None:
        if newest == self._newest:
            return
        self._newest = newest
        path = os.path.join(self._folder, newest)
        if os.stat(path).st_size < self._log_bytes:
            os.truncate(path, self._log_bytes)


def log_names(folder: str) -> list[str]:
    """RocksDB's, whose numbers have six digits or more."""
    return [name for name in os.listdir(folder) if name.endswith(".log")]


def cut_logs(folder: str) -> None:
    """Who calls has the lock of the folder: to whom else it is open may be writing. Raises
    OSError."""
    for name in log_names(folder):
        with open(os.path.join(folder, name), "r+b", buffering=0) as file:
            end = records_end(file)
            if end < os.fstat(file.fileno()).st_size:
                file.truncate(end)


def records_end(file: RawIOBase) -> int:
    """Where zeros stand for a record; else the end. Damage of another kind is RocksDB's to find."""
    at = 0
    while block := file.read(LOG_BLOCK_BYTES):
        end = _end_in_block(block)
        at += end
        if end < len(block):
            break
    return at


def _end_in_block(block: bytes) -> int:
    at, last = 0, len(block) - LOG_HEAD_BYTES
    while at <= last:
        length, kind = block[at + 4] | block[at + 5] << 8, block[at + 6]
        if not length and not kind:
            return at
        at += LOG_HEAD_BYTES + length
    return len(block)

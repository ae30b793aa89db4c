"""RocksDB as this store wants it: options, opening, cursors, and its bare exceptions turned into
errors of ours.

The rule: only this file, `format` and `rocks` know rocksdict; whatever it raises passes
`translated`, which reads the text, since there is nothing else to tell one failure from another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
)

from spear.errors import KvDamaged, KvError, KvFull, KvLocked
from spear.kv.archive import Row, sync_folder
from spear.kv.logs import Tables
from spear.kv.rows import prefix_end, unseal

if TYPE_CHECKING:
    from spear.kv.pastdamage import PastDamage

BLOOM_BITS = 10  # a key; a miss is then answered without reading a block
FIRST_KEY = b"\1"  # those below are the store's own
LEAST_LOG = "rocksdb.min-log-number-to-keep"
SMALL_BYTES = 1 << 20  # buffer and cache of who reads no row
CHUNK_ROWS, CHUNK_BYTES = 256, 256 << 10
NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large")
DAMAGE = ("Corruption", "orrupted", "checksum", "No such file", "does not exist", "NotFound")
# What RocksDB leaves behind where it was ended while it made a database.
UNBORN = ("LOCK", "LOG", "IDENTITY", "MANIFEST-", "OPTIONS-", "rocksdict-config.json")


def options(write_buffer_bytes: int, cache_bytes: int) -> Options:
    """One writer, a log that reaches the operating system with each write, and recovery up to the
    first record that is not whole: what follows it was not told to be safe, or `watermark` says
    so."""
    made = Options(raw_mode=True)
    made.create_if_missing(False)
    made.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    made.set_paranoid_checks(True)
    made.set_write_buffer_size(write_buffer_bytes)
    made.set_max_write_buffer_number(3)
    made.set_allow_concurrent_memtable_write(False)
    made.set_enable_write_thread_adaptive_yield(False)
    made.set_max_background_jobs(2)
    made.set_max_open_files(256)
    made.set_keep_log_file_num(2)
    made.set_max_log_file_size(1 << 20)
    made.set_stats_dump_period_sec(0)
    made.set_stats_persist_period_sec(0)
    made.set_skip_stats_update_on_db_open(True)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(cache_bytes))
    table.set_bloom_filter(BLOOM_BITS, False)
    made.set_block_based_table_factory(table)
    return made


def passing() -> ReadOptions:
    """Of who reads many rows once, as history does where it forgets: the cache is for rows that are
    asked for again."""
    made = ReadOptions()
    made.fill_cache(False)  # type: ignore[call-arg]  # its stub lacks the argument
    return made


def unchecked() -> ReadOptions:
    """Of who looks for a way past damage: what a block without its checksum says of keys, order and
    deletions may be wrong, and its rows are not to be taken for those of now."""
    made = passing()
    made.set_verify_checksums(False)
    return made


def open_database(path: str, settings: Options) -> Rdict:
    """Opens it, or makes it where there is none. Raises KvLocked, KvDamaged, KvFull, KvError."""
    settings.create_if_missing(_unborn(path))
    try:
        return Rdict(path, settings)
    except Exception as error:
        text = str(error)
        if "lock" in text and ("current process" in text or "temporarily unavailable" in text):
            raise locked(path, "current process" in text) from error
        if "Permission denied" in text:
            raise KvError(f"cannot open the metadata store {path!r}: {text}") from error
        kind = KvFull if any(words in text for words in NO_ROOM) else KvDamaged
        hint = "make room on its disk" if kind is KvFull else "restore a backup"
        raise kind(f"cannot open the metadata store {path!r}: {text}; {hint}") from error


def tables_of(path: str) -> Tables:
    """As the manifest says it; no log is read. Raises KvDamaged, KvError."""
    settings = options(SMALL_BYTES, SMALL_BYTES)
    try:
        with TemporaryDirectory(dir=path) as empty:  # on the disk that is written to anyhow
            settings.set_wal_dir(empty)
            db = open_to_read(path, settings)
            log, last = db.property_value(LEAST_LOG), db.latest_sequence_number()
            db.close()
    except Exception as error:
        raise translated(error, f"opening {path!r}") from error
    return Tables(int(log or 0), last)


def open_to_read(path: str, settings: Options) -> Rdict:
    """Beside a disk without room: reads only, takes no lock and writes nothing."""
    return Rdict(path, settings, access_type=AccessType.read_only(False))


def translated(error: Exception, asked: str) -> KvError:
    """`asked` says what was to be done. What is neither rocksdict's nor the system's passes."""
    if type(error) not in (Exception, DbClosedError) and not isinstance(error, OSError):
        raise error
    text = str(error)
    if any(words in text for words in NO_ROOM):
        return KvFull(f"{asked} found no room: {text}; make room on the disk")
    if any(words in text for words in DAMAGE):
        return KvDamaged(
            f"{asked} found damage: {text}; restore a backup, or give up what "
            "is lost by `spear node accept-loss`"
        )
    return KvError(f"{asked} failed: {text}")


def room_bytes(path: str) -> int:
    """What an unprivileged process may still write on the disk of this folder."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _unborn(path: str) -> bool:
    """Whether nothing was ever stored here: an empty folder, or a making that was cut short."""
    names = os.listdir(path)
    if "CURRENT" in names:
        return False
    return all(name.startswith(UNBORN) or name.endswith(".dbtmp") for name in names)


def locked(path: str, ours: bool) -> KvLocked:
    holder = "this process" if ours else _holder(path)
    return KvLocked(f"the metadata store {path!r} is open in {holder}: end it, or name another")


def _holder(path: str) -> str:
    """The process with the lock, as far as the kernel shows it. The lock file itself is not opened:
    closing it again would give up a lock that this process has on it."""
    try:
        found = os.stat(os.path.join(path, "LOCK"))
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if device in words and int(words[4]) > 0:
                ours = int(words[4]) == os.getpid()
                return "this process" if ours else f"process {words[4]}"
    except (OSError, ValueError, IndexError):
        pass
    return "another process"


def private_folder(path: str) -> str:
    """The folder without links in its path, made for the owner alone if it is missing; what was
    made survives a power cut."""
    whole = os.path.realpath(path)
    try:
        made = [whole] if not os.path.exists(whole) else []
        while made and not os.path.exists(above := os.path.dirname(made[-1])):
            made.append(above)
        os.makedirs(whole, mode=0o700, exist_ok=True)
        for folder in made:
            sync_folder(os.path.dirname(folder))
    except OSError as error:
        raise KvError(f"cannot make the folder {path!r}: {error.strerror}") from error
    return whole


def stored_rows(
    cursor: RdictIter | PastDamage, prefix: bytes, after: bytes, limit: int, reverse: bool
) -> list[Row]:
    """The rows as they are stored."""
    (_before if reverse else _behind)(cursor, prefix, after)
    step = cursor.prev if reverse else cursor.next
    rows: list[Row] = []
    while len(rows) < limit and cursor.valid():
        key = cursor.key()
        if not key.startswith(prefix) or key < FIRST_KEY:
            return rows
        rows.append((key, cursor.value()))
        step()
    cursor.status()  # the end of the rows, or an error that looks like it
    return rows


def _behind(cursor: RdictIter | PastDamage, prefix: bytes, after: bytes) -> None:
    cursor.seek(max(prefix or FIRST_KEY, after + b"\0" if after else b""))


def _before(cursor: RdictIter | PastDamage, prefix: bytes, after: bytes) -> None:
    bounds = [bound for bound in (prefix_end(prefix), after) if bound]
    if not bounds:
        cursor.seek_to_last()
        return
    cursor.seek_for_prev(min(bounds))
    if cursor.valid() and cursor.key() == min(bounds):
        cursor.prev()


class SnapshotRows:
    """All rows as they are now, in pieces for `write_archive`."""

    def __init__(self, db: Rdict) -> None:
        self._snapshot = db.snapshot()
        self._cursor: RdictIter | None = self._snapshot.iter(passing())
        self._cursor.seek(FIRST_KEY)

    def __iter__(self) -> Iterator[list[Row]]:
        while rows := self._chunk():
            yield rows

    def release(self) -> None:
        self._cursor = None
        self.__dict__.pop("_snapshot", None)

    def _chunk(self) -> list[Row]:
        try:
            stored = self._stored()
        except KvError:
            raise
        except Exception as error:
            raise translated(error, "backing up") from error.with_traceback(None)
        return [(key, unseal(key, value)) for key, value in stored]

    def _stored(self) -> list[Row]:
        cursor = self._cursor
        if cursor is None:
            raise KvError("the metadata store was closed or opened anew: back up again")
        rows: list[Row] = []
        taken_bytes = 0
        while cursor.valid() and len(rows) < CHUNK_ROWS and taken_bytes < CHUNK_BYTES:
            rows.append((cursor.key(), cursor.value()))
            taken_bytes += len(rows[-1][0]) + len(rows[-1][1])
            cursor.next()
        cursor.status()
        return rows

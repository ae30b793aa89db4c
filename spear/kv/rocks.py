"""The metadata store on disk: RocksDB, with what it leaves to its user.

The rule: `write` reaches the operating system and is visible when it returns (class crash); what
`synced` has told is on the disk (class power); loss or damage of it is noticed, when the store is
opened or when the row is read. After a failed write or flush nothing more is written until the
store was opened anew, which it does itself once there is room; it can be read meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from threading import get_ident
from zlib import crc32

from rocksdict import Options, Rdict, RdictIter, WriteBatch

from spear._core.sealing import put_all, seal
from spear.errors import InvalidArgument, KvDamaged, KvError, KvFull
from spear.kv import engine
from spear.kv.archive import Row, write_archive
from spear.kv.batch import Batch, conflict, shown
from spear.kv.committer import Committer
from spear.kv.flusher import Flusher
from spear.kv.folderlock import FolderLock
from spear.kv.format import settle
from spear.kv.interface import SCAN_LIMIT
from spear.kv.logs import cut_logs
from spear.kv.pastdamage import Damaged, PastDamage
from spear.kv.rows import RESIDUE, unseal
from spear.kv.watch import Watch, Watchers
from spear.kv.watermark import NAME as MARK
from spear.kv.watermark import Mark, read_mark

WRITE_BUFFER_BYTES = 16 << 20
CACHE_BYTES = 32 << 20
_BLANKS = 16  # batches made at once: one made by itself takes as long as four of these

Opener = Callable[[str, Options], Rdict]


class RocksKv:
    """Made by `open_rocks`; used on one thread, that of the loop."""

    durability = "power"

    def __init__(
        self, path: str, settings: Options, opener: Opener, log_bytes: int, accept_loss: bool
    ) -> None:
        self._path, self._settings, self._opener = path, settings, opener
        self._log_bytes = log_bytes  # of a log that has its room; two must fit on the disk
        self._thread = get_ident()
        self._refusal: KvError | None = None  # why nothing is written
        self._closed = False
        self._watchers = Watchers()
        self._backups: set[engine.SnapshotRows] = set()
        self._counts = {"conflicts": 0, "damaged_rows": 0, "reopened": 0}
        self._writes = 0
        self._blanks: list[WriteBatch] = []
        self._lock = FolderLock(path)
        try:
            self._open(accept_loss)
        except BaseException:
            self._lock.release()
            raise

    def get(self, key: bytes) -> bytes | None:
        try:
            stored: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._unreadable(f"reading {shown(key)}", error) from error
        if stored is None:
            return None
        if crc32(stored, crc32(key)) != RESIDUE:
            self._counts["damaged_rows"] += 1
            return unseal(key, stored)  # raises
        return stored[:-4]

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = SCAN_LIMIT, reverse: bool = False,
        damaged: Damaged | None = None,
    ) -> list[Row]:  # fmt: skip
        if limit < 0:
            raise InvalidArgument(f"a scan's limit is 0 or more, not {limit}")
        if damaged is None:
            return self._unsealed(self._stored(prefix, after, limit, reverse))
        whole: list[Row] = []
        while (left := limit - len(whole)) > 0:
            stored = self._stored(prefix, after, left, reverse, damaged)
            whole += self._whole(stored, damaged)
            if len(stored) < left:
                break
            after = stored[-1][0]
        return whole

    def _stored(
        self, prefix: bytes, after: bytes, limit: int, reverse: bool,
        damaged: Damaged | None = None,
    ) -> list[Row]:  # fmt: skip
        try:
            return engine.stored_rows(self._cursor(), prefix, after, limit, reverse)
        except Exception as error:
            # Without its frames: they keep the cursor, and an open cursor keeps the lock.
            failure = self._unreadable(f"scanning {prefix!r}", error.with_traceback(None))
            if damaged is None or not isinstance(failure, KvDamaged):
                raise failure from error
        return self._past_damage(prefix, after, limit, reverse, damaged)

    def _past_damage(
        self, prefix: bytes, after: bytes, limit: int, reverse: bool, damaged: Damaged
    ) -> list[Row]:
        def met(key: bytes, error: KvDamaged) -> None:
            self._counts["damaged_rows"] += 1
            damaged(key, error)

        try:
            past = PastDamage(self._cursor, prefix, met)
            return engine.stored_rows(past, prefix, after, limit, reverse)
        finally:
            del past  # an error's frames would keep its cursor

    def _cursor(self) -> RdictIter:
        return self._db.iter(engine.passing())

    def cursor(self, *, checked: bool) -> RdictIter:
        """Over rows as they are stored, for `salvage`; it keeps the lock while it is."""
        return self._db.iter(engine.passing() if checked else engine.unchecked())

    def _unsealed(self, stored: list[Row]) -> list[Row]:
        try:
            return [(key, unseal(key, value)) for key, value in stored]
        except KvDamaged:
            self._counts["damaged_rows"] += 1
            raise

    def _whole(self, stored: list[Row], damaged: Damaged) -> list[Row]:
        found: list[Row] = []
        for row in stored:
            try:
                found += self._unsealed([row])
            except KvDamaged as error:
                damaged(row[0], error)
        return found

    def write(self, batch: Batch) -> int:
        if get_ident() != self._thread:
            raise RuntimeError("the metadata store is written from another thread than its own")
        if self._refusal is not None:
            self._resume()
        for key, expected in batch.expected.items():
            found = self.get(key)
            if found != expected:
                self._counts["conflicts"] += 1
                raise conflict(key, expected, found)
        changes, state = batch.changes, self._committer.state
        if not changes:
            return state.written
        try:
            _put(self._db, changes, self._blanks)
        except Exception as error:
            raise self._stop(error) from error
        state.written = sequence = self._db.latest_sequence_number()
        self._writes += 1
        if self._watchers.watches:
            self._watchers.tell(sequence, changes)
        return sequence

    async def synced(self, sequence: int) -> None:
        if sequence > self._committer.state.synced and self._refusal is not None:
            raise self._refused()
        await self._committer.synced(sequence)

    def when_synced(self, sequence: int, call: Callable[[KvError | None], None]) -> None:
        loop = asyncio.get_running_loop()
        if sequence > self._committer.state.synced and self._refusal is not None:
            loop.call_soon(call, self._refused())
        else:
            self._committer.when_synced(loop, sequence, call)

    async def commit(self, batch: Batch) -> int:
        sequence = self.write(batch)
        await self.synced(sequence)
        return sequence

    def watch(self, prefix: bytes) -> Watch:
        if self._closed:
            raise self._refused()
        return self._watchers.watch(prefix)

    def stats(self) -> dict[str, int]:
        state = self._committer.state
        return self._counts | {
            "writes": self._writes,
            "sequence": state.written,
            "synced": state.synced,
            "flushes": self._committer.flushes,
            "watches": len(self._watchers.watches),
            "writable": int(self._refusal is None),
        }

    async def backup(self, path: str) -> None:
        if self._closed:
            raise self._refused()
        snapshot = engine.SnapshotRows(self._db)
        self._backups.add(snapshot)
        try:
            await write_archive(path, self._committer.state.written, snapshot)
        finally:
            self._backups.discard(snapshot)
            snapshot.release()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        writable = self._refusal is None
        self._refusal = KvError("the metadata store is closed")
        try:
            if writable:
                await self._committer.synced(self._committer.state.written)
                await asyncio.sleep(0)  # it is noted after who waits was told
        finally:
            self._watchers.close()
            self._release()
            self._committer.stop(self._refused())
            # In one thread, to its end, also where who closes is cancelled.
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self._shut()
        finally:
            self._lock.release()

    def _open(self, accept_loss: bool, least: int = 0) -> None:
        """`least`: the last write that must be found, beside what the watermark says."""
        mark = None if accept_loss else read_mark(self._path)

        def lost(found: int) -> None:
            _check_sequence(self._path, found, mark, least)

        db = self._opened(lost)
        try:
            found = db.latest_sequence_number()
            _check_sequence(self._path, found, mark, least)
            settle(
                db,
                self._path,
                marked=os.path.exists(os.path.join(self._path, MARK)),
                accept_loss=accept_loss,
            )
            found = db.latest_sequence_number()
            self._flusher = Flusher(self._path, found, self._log_bytes)
        except Exception as error:
            with contextlib.suppress(Exception):
                db.close()
            if isinstance(error, KvError):
                raise
            raise engine.translated(error, f"opening {self._path!r}") from error
        self._db = db
        self._committer = Committer(found, self._flusher, self._stop)

    def _opened(self, lost: Callable[[int], None]) -> Rdict:
        try:
            cut_logs(self._path, lambda: engine.tables_of(self._path), lost)
        except OSError as error:
            raise engine.translated(error, f"opening {self._path!r}") from error
        return self._opener(self._path, self._settings)

    def _stop(self, error: Exception) -> KvError:
        """After a failed write or flush; gives the error to raise."""
        failure = engine.translated(error, f"writing to {self._path!r}")
        if self._refusal is None:
            self._refusal = failure
            self._committer.fail(self._refused())
        return failure

    def _resume(self) -> None:
        """Opens the store anew where it stopped for want of room and there is some; else raises."""
        if self._closed or not isinstance(self._refusal, KvFull):
            raise self._refused()
        room_bytes = engine.room_bytes(self._path)
        wanted_bytes = 2 * self._log_bytes
        if room_bytes < wanted_bytes:
            raise KvFull(
                f"{self._refusal}: {-(-wanted_bytes >> 20)} MiB free on it are needed, there "
                f"are {room_bytes >> 20}"
            )
        self._release()
        written = self._committer.state.written
        self._committer.stop(self._refused())
        self._shut()
        try:
            self._open(accept_loss=False, least=written)
        except KvError as error:
            self._refusal = type(error)(str(error))
            with contextlib.suppress(Exception):
                self._db = engine.open_to_read(self._path, self._settings)
            raise
        self._refusal = None
        self._counts["reopened"] += 1

    def _shut(self) -> None:
        self._flusher.join()
        with contextlib.suppress(Exception):  # after a failed write it tells of that once more
            self._db.close()
        with contextlib.suppress(OSError):
            self._flusher.close()

    def _release(self) -> None:
        """Ends the backups under way: their snapshots would keep the lock."""
        for snapshot in self._backups:
            snapshot.release()

    def _refused(self) -> KvError:
        """The reason as a new error, since an error raised twice grows its traceback."""
        assert self._refusal is not None
        return type(self._refusal)(str(self._refusal))

    def _unreadable(self, asked: str, error: Exception) -> KvError:
        return self._refused() if self._closed else engine.translated(error, asked)


def open_rocks(
    path: str,
    *,
    write_buffer_bytes: int = WRITE_BUFFER_BYTES,
    cache_bytes: int = CACHE_BYTES,
    accept_loss: bool = False,
    opener: Opener = engine.open_database,
) -> RocksKv:
    """Opens the store in this folder, or makes it. It may take seconds after a crash.

    `accept_loss` opens what is left where safe writes are known to be lost, and gives up what is
    not found then; damaged rows still raise when they are read (`salvage` gives up those).

    Raises KvLocked, KvDamaged, KvFormat, KvFull, KvError.
    """
    whole = engine.private_folder(path)
    settings = engine.options(write_buffer_bytes, cache_bytes)
    return RocksKv(whole, settings, opener, write_buffer_bytes, accept_loss)


def _put(db: Rdict, changes: dict[bytes, bytes | None], blanks: list[WriteBatch]) -> None:
    """Writes the changes with their checksums. One put costs two thirds of a batch of one."""
    if len(changes) == 1:
        for key, value in changes.items():
            if value is not None:
                db.put(key, seal(key, value))
                return
    if not blanks:
        blanks += [WriteBatch(True) for _ in range(_BLANKS)]
    batch = blanks.pop()
    put_all(changes, batch.put, batch.delete)
    db.write(batch)


def _check_sequence(path: str, found: int, mark: Mark | None, least: int) -> None:
    wanted = max(mark.sequence if mark else 0, least)
    if found < wanted:
        raise KvDamaged(
            f"the metadata store {path!r} had safe writes up to number {wanted}, and those up to "
            f"{found} are found: restore a backup, or give up what is lost by `spear node "
            "accept-loss`"
        )

"""A metadata store under load that is ended without warning, and the judge of what is found then.

    python tests/kv_runs.py FOLDER SEED FAULT     the writer; it runs until it is killed

The rule: batch number g is a function of the seed and g, and leaves g in the row `last`. So what is
found must be the first g batches, exactly, for some g: at least the last one acknowledged, at most
the last one begun. The writer tells its steps by a pipe, which outlives it: `i` begun, `c` written,
`p` synced, each with g, and `s` the bytes of each log that finished flushes made safe, if its name
is safe too.

A power cut is acted: of each log the bytes that no finished flush had are dropped, at a random
point, with a torn end, or block by block, since a log that was made longer may have got any of
them; one whose name is not safe may be gone; the mark of what was safe may be an old one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict, WriteOptions

from spear._core.flushthread import FlushThread
from spear.errors import KvError
from spear.kv import committer, engine, flusher, livelogs, rocks
from spear.kv.batch import Batch
from spear.kv.flusher import Flusher
from spear.kv.livelogs import LiveLogs
from spear.kv.watermark import NAME as MARK

TASKS = 8
LAST = b"last"
WRITE_BUFFER_BYTES = 64 << 10  # so small that tables are written and merged meanwhile
BLOCK = 4096


def changes(seed: int, number: int) -> dict[bytes, bytes | None]:
    """Batch `number`. `last` stands first, so that a batch torn apart is seen."""
    dice = random.Random(seed << 32 | number)
    made: dict[bytes, bytes | None] = {LAST: b"%d" % number}
    for _ in range(dice.randrange(1, 5)):
        key = b"row/%03d" % dice.randrange(200)
        made[key] = None if dice.random() < 0.2 else dice.randbytes(dice.randrange(600))
    return made


def power(seed: int, number: int) -> bool:
    """Whether the writer waits until batch `number` is safe from a power cut."""
    return random.Random(~seed << 32 | number).random() < 0.6


def state(
    seed: int, number: int, rows: dict[bytes, bytes] | None = None, known: int = 0
) -> dict[bytes, bytes]:
    """All rows after the first `number` batches; `rows` are those after the first `known`."""
    found: dict[bytes, bytes | None] = dict(rows or {})
    for at in range(known + 1, number + 1):
        found |= changes(seed, at)
    return {key: value for key, value in found.items() if value is not None}


def rows_of(kv: rocks.RocksKv) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    while page := kv.scan(b"", after=max(found, default=b""), limit=500):
        found |= page
    return found


# The writer


class Safe:
    """What finished flushes made safe: of which logs the name, and how many bytes."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.sizes: dict[str, int] = {}

    def grown(self, names: Iterable[str], sizes: dict[str, int]) -> None:
        self.names |= set(names)
        self.sizes |= sizes
        known = {name: size for name, size in self.sizes.items() if name in self.names}
        tell(f"s {json.dumps(known)}")


class RecordedDb:
    """The database, telling what its own flush makes safe, which it does as it is opened."""

    def __init__(self, db: Rdict, safe: Safe) -> None:
        self._db, self._safe = db, safe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def flush_wal(self, sync: bool) -> None:
        sizes = sizes_of(logs(Path(self._db.path())))
        self._db.flush_wal(sync)
        self._safe.grown(sizes, sizes)


class RecordedThread:
    """The flush thread, telling what each flush made safe: nothing that it was not handed."""

    def __init__(self, safe: Safe) -> None:
        self._thread, self._safe = FlushThread(), safe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._thread, name)

    def begin(self, files: list[int], folder: int = -1) -> None:
        paths = [Path(os.readlink(f"/proc/self/fd/{file}")) for file in files]
        self._sizes = sizes_of([path for path in paths if path.suffix == ".log"])
        self._names = []
        if folder >= 0:
            at = Path(os.readlink(f"/proc/self/fd/{folder}"))
            self._names = [path.name for path in logs(at)]
        self._thread.begin(files, folder)

    def ended(self) -> int | None:
        error = self._thread.ended()
        if error == 0:
            self._safe.grown(self._names, self._sizes)
        return error


def sizes_of(paths: Iterable[Path]) -> dict[str, int]:
    """How many bytes of these logs are written."""
    sizes = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a log whose rows are in a table
            sizes[path.name] = written_bytes(path) or path.stat().st_size
    return sizes


def written_bytes(path: Path) -> int:
    """How far RocksDB has written its open file: the file itself may be longer, and others have it
    open too. 0 where it has closed it."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(path):
                words = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
                found = max(found, int(words[1]))
    return found


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # short enough to be one piece


async def write_for_ever(folder: str, seed: int) -> None:
    safe = Safe()
    flusher.FlushThread = partial(RecordedThread, safe)

    def opener(path: str, settings: Options) -> Any:
        return RecordedDb(engine.open_database(path, settings), safe)

    kv = rocks.open_rocks(folder, write_buffer_bytes=WRITE_BUFFER_BYTES, opener=opener)
    number = int(kv.get(LAST) or 0)

    async def task() -> None:
        nonlocal number
        while True:
            number += 1
            own = number
            batch = Batch()
            batch.expect(LAST, b"%d" % (own - 1) if own > 1 else None)
            for key, value in changes(seed, own).items():
                batch.delete(key) if value is None else batch.put(key, value)
            tell(f"i {own}")
            sequence = kv.write(batch)
            tell(f"c {own}")
            if power(seed, own):
                await kv.synced(sequence)
                tell(f"p {own}")
            else:
                await asyncio.sleep(0)

    await asyncio.gather(*(task() for _ in range(TASKS)))


# Faults that the judge must notice, planted in the writer


def no_flush() -> None:
    LiveLogs.unsafe = lambda self: ([], -1)


def old_logs_left_out() -> None:
    """With two logs at most times: one alone is not put into a table."""

    def opened(path: str, settings: Options) -> Rdict:
        settings.set_min_write_buffer_number_to_merge(2)
        return whole(path, settings)

    def unsafe(self: LiveLogs) -> tuple[list[int], int]:
        files, folder = sound(self)
        return files[-1:], folder

    sound, whole = LiveLogs.unsafe, engine.open_database
    LiveLogs.unsafe, engine.open_database = unsafe, opened


def new_log_noticed_late() -> None:
    """As by the folder's time, which may stand still for some milliseconds."""

    class Slow:
        def __init__(self, path: str) -> None:
            self._flushes = 0

        def changed(self) -> bool:
            self._flushes += 1
            return self._flushes % 8 == 1

        def close(self) -> None:
            pass

    livelogs.FolderWatch = Slow


def folder_not_synced() -> None:
    def unsafe(self: LiveLogs) -> tuple[list[int], int]:
        return sound(self)[0], -1

    sound = LiveLogs.unsafe
    LiveLogs.unsafe = unsafe


def told_before_the_flush() -> None:
    async def synced(self: committer.Committer, sequence: int) -> None:
        asyncio.ensure_future(sound(self, sequence))  # noqa: RUF006
        await asyncio.sleep(0)

    sound = committer.Committer.synced
    committer.Committer.synced = synced


def joins_the_flush_under_way() -> None:
    def wait(self: committer.GroupCommit[Any], sequence: int, waiter: Any) -> None:
        (self._later if self.flushing is None else self._covered).append(waiter)

    committer.GroupCommit.wait = wait


def marked_before_the_flush() -> None:
    def begin(self: Flusher, sequence: int, ended: Any) -> None:
        self._mark.advance(sequence, self._mark.tables_bytes())
        sound(self, sequence, ended)

    sound = Flusher.begin
    Flusher.begin = begin


def past_the_log() -> None:
    def opened(self: rocks.RocksKv, *rest: Any) -> None:
        sound(self, *rest)
        unlogged = WriteOptions()
        unlogged.disable_wal = True  # type: ignore[assignment, method-assign]
        self._db.set_write_options(unlogged)

    sound = rocks.RocksKv._open
    rocks.RocksKv._open = opened


def row_by_row() -> None:
    def put(db: Any, changes: dict[bytes, bytes | None], blanks: Any) -> None:
        for key, value in changes.items():
            sound(db, {key: value}, blanks)
            time.sleep(0.0005)

    sound = rocks._put
    rocks._put = put


def out_of_order() -> None:
    """Every second batch is handed on behind the one after it."""
    held: list[dict[bytes, bytes | None]] = []

    def put(db: Any, changes: dict[bytes, bytes | None], blanks: Any) -> None:
        if held:
            sound(db, changes, blanks)
            sound(db, held.pop() | {LAST: changes[LAST]}, blanks)
        else:
            held.append(changes)
            sound(db, {LAST: changes[LAST]}, blanks)

    sound = rocks._put
    rocks._put = put


FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    # name: (how it is planted, the ending that shows it)
    "no_flush": (no_flush, "power"),
    "old_logs_left_out": (old_logs_left_out, "power"),
    "new_log_noticed_late": (new_log_noticed_late, "power"),
    "folder_not_synced": (folder_not_synced, "power"),
    "told_before_the_flush": (told_before_the_flush, "power"),
    "joins_the_flush_under_way": (joins_the_flush_under_way, "power"),
    "marked_before_the_flush": (marked_before_the_flush, "power"),
    "past_the_log": (past_the_log, "kill"),
    "row_by_row": (row_by_row, "kill"),
    "out_of_order": (out_of_order, "kill"),
}


# The judge


class Trial:
    """One store that is ended and opened again and again."""

    def __init__(self, folder: Path, seed: int, fault: str = "") -> None:
        self.folder, self.seed, self.fault = folder, seed, fault
        self.dice = random.Random(seed)
        self.known = 0  # the batch that was found last
        self.rows: dict[bytes, bytes] = {}  # those found last

    def round(self, ending: str) -> None:
        """Runs the writer, ends it ("kill" or "power"), and judges. Raises AssertionError."""
        mark = self._mark()
        told = self._run(steps=self.dice.randrange(1, 400))
        if ending == "power":
            self._cut_power(told, mark)
        begun = self._last(told, "i", at_least=self.known)
        safe = self._last(told, "p" if ending == "power" else "c", at_least=self.known)
        asyncio.run(self._compare(safe, begun, ending))

    def _run(self, steps: int) -> list[str]:
        """What the writer told, until some time after so many lines."""
        words = [sys.executable, __file__, str(self.folder), str(self.seed), self.fault]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            told = [line for _, line in zip(range(steps), child.stdout, strict=False)]
            child.kill()
            told += child.stdout.readlines()
            errors = child.stderr.read().decode()
        assert len(told) >= steps, f"the writer ended by itself: {errors}"
        return [line.decode().rstrip("\n") for line in told]

    def _mark(self) -> bytes | None:
        path = self.folder / MARK
        return path.read_bytes() if path.exists() else None

    def _cut_power(self, told: list[str], old_mark: bytes | None) -> None:
        flushed = [line[2:] for line in told if line.startswith("s ")]
        safe: dict[str, int] = json.loads(flushed[-1]) if flushed else {}
        for path in logs(self.folder):
            if path.name not in safe and self.dice.random() < 0.5:
                path.unlink()
            else:
                self._tear(path, safe.get(path.name, 0))
        if old_mark is not None and self.dice.random() < 0.5:
            (self.folder / MARK).write_bytes(old_mark)

    def _tear(self, path: Path, safe: int) -> None:
        """Keeps the safe bytes; of the others a part, whose last block is as it may be, or some
        blocks of all."""
        data = path.read_bytes()
        if self.dice.random() < 0.5:
            path.write_bytes(self._with_holes(data, safe))
            return
        data = data.rstrip(b"\0").ljust(safe, b"\0")
        kept = self.dice.randint(min(safe, len(data)), len(data))
        torn = max(safe, kept - kept % BLOCK)
        end = data[torn:kept]
        how = self.dice.randrange(3)
        if how == 1:
            end = bytes(len(end))
        elif how == 2:
            end = self.dice.randbytes(len(end))
        path.write_bytes(data[:torn] + end)

    def _with_holes(self, data: bytes, safe: int) -> bytes:
        made = bytearray(data)
        for at in range(safe - safe % BLOCK, len(data), BLOCK):
            if self.dice.random() < 0.3:
                lost = slice(max(at, safe), at + BLOCK)
                made[lost] = bytes(len(made[lost]))
        return bytes(made)

    @staticmethod
    def _last(told: list[str], kind: str, at_least: int) -> int:
        numbers = [int(line[2:]) for line in told if line.startswith(kind)]
        return max(numbers, default=at_least)

    def _judge(self, safe: int, begun: int, ending: str) -> None:
        asyncio.run(self._compare(safe, begun, ending))

    async def _compare(self, safe: int, begun: int, ending: str) -> None:
        try:
            kv = rocks.open_rocks(str(self.folder), write_buffer_bytes=WRITE_BUFFER_BYTES)
        except KvError as error:
            raise AssertionError(f"after {ending} it does not open: {error}") from error
        try:
            found = rows_of(kv)
        finally:
            await kv.close()
        last = int(found.get(LAST, 0))
        assert safe <= last <= begun, f"after {ending}: found {last} of {safe} to {begun}"
        self.rows = state(self.seed, last, self.rows, self.known)
        assert found == self.rows, f"after {ending}: not the first {last} batches"
        self.known = last


def main() -> None:
    folder, seed, fault = sys.argv[1:4]
    if fault:
        FAULTS[fault][0]()
    asyncio.run(write_for_ever(folder, int(seed)))


if __name__ == "__main__":
    main()

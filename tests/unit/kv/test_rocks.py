"""What only the store on disk has: locks, damaged rows, a full disk, opening again."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from rocksdict import Options, Rdict

from spear._core.flushthread import FlushThread
from spear.errors import Conflict, KvDamaged, KvError, KvFull, KvLocked
from spear.kv import engine, flusher, rocks
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks
from spear.kv.rows import RESIDUE, seal

NO_ROOM = "IO error: No space left on device: While appending to file: 000004.log"


def put(key: bytes, value: bytes = b"") -> Batch:
    batch = Batch()
    batch.put(key, value)
    return batch


class Disk:
    """Opens databases whose writes fail while it is told so, and fails flushes: `flush_error` is an
    errno."""

    def __init__(self) -> None:
        self.write_error = self.open_error = ""
        self.flush_error = self.opened = 0

    def thread(self) -> _Thread:
        return _Thread(self)

    def open(self, path: str, settings: Options) -> Any:
        if self.open_error:
            raise KvFull(self.open_error)
        self.opened += 1
        return _Db(self, engine.open_database(path, settings))


class _Db:
    def __init__(self, disk: Disk, db: Rdict) -> None:
        self._disk, self._db = disk, db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def put(self, *arguments: Any) -> None:
        if self._disk.write_error:
            raise Exception(self._disk.write_error)
        self._db.put(*arguments)

    def write(self, *arguments: Any) -> None:
        if self._disk.write_error:
            raise Exception(self._disk.write_error)
        self._db.write(*arguments)


class _Thread:
    def __init__(self, disk: Disk) -> None:
        self._disk, self._thread = disk, FlushThread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._thread, name)

    def ended(self) -> int | None:
        found = self._thread.ended()
        return found if found is None else self._disk.flush_error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(flusher, "FlushThread", made.thread)
    return made


async def test_rows_are_there_after_closing_and_opening(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "kv")
    kv = open_rocks(path)
    sequence = kv.write(put(b"a", b"1"))
    await kv.close()
    assert os.stat(path).st_mode & 0o777 == 0o700
    kv = open_rocks(path)
    assert kv.get(b"a") == b"1"
    assert kv.write(put(b"b")) > sequence
    assert kv.durability == "power"
    await kv.close()


async def test_a_closed_store_holds_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    kv = open_rocks(str(tmp_path))
    await kv.commit(put(b"a", b"1"))
    await kv.close()
    assert len(os.listdir("/proc/self/fd")) == before
    kv = open_rocks(str(tmp_path))  # without a flush
    await kv.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_open_store_is_locked_also_by_a_link_to_it(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path / "kv"))
    (tmp_path / "link").symlink_to(tmp_path / "kv")
    for name in ("kv", "link"):
        with pytest.raises(KvLocked, match=f"{tmp_path / 'kv'}.*this process"):
            open_rocks(str(tmp_path / name))
    await kv.close()
    await open_rocks(str(tmp_path / "link")).close()


async def test_the_lock_of_another_process_is_told_with_its_number(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    program = (
        "import sys; from spear.kv.rocks import open_rocks\n"
        f"kv = open_rocks({path!r}); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        locks = Path("/proc/locks").read_text()
        known = any(f" {child.pid} " in line for line in locks.splitlines())
        holder = f"process {child.pid}" if known else "another process"
        with pytest.raises(KvLocked, match=f"{path}.*{holder}"):
            open_rocks(path)
        child.kill()
    await open_rocks(path).close()


async def test_an_error_kept_by_its_catcher_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    kv = open_rocks(path)
    kv._db[b"row"] = b"not sealed"
    with pytest.raises(KvDamaged) as kept:
        kv.scan(b"")
    await kv.close()
    await open_rocks(path).close()
    assert kept.value.__traceback__ is not None


@pytest.mark.parametrize("name", ["notes.txt", "000123.log", "data"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(KvDamaged, match=str(tmp_path)):
        open_rocks(str(tmp_path))
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("step", ["settle", "Flusher"])
async def test_a_making_that_was_cut_short_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Cut(KvError):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut("here")

    monkeypatch.setattr(rocks, step, cut)
    with pytest.raises(Cut):
        open_rocks(str(tmp_path / "kv"))
    monkeypatch.undo()
    kv = open_rocks(str(tmp_path / "kv"))
    await kv.commit(put(b"a", b"1"))
    await kv.close()
    (tmp_path / "kv" / "CURRENT").unlink()
    with pytest.raises(KvDamaged, match="CURRENT"):
        open_rocks(str(tmp_path / "kv"))


def test_a_making_that_had_not_come_to_its_current_file_begins_anew(tmp_path: Path) -> None:
    for name in ("LOCK", "LOG", "IDENTITY", "MANIFEST-000001", "000001.dbtmp"):
        (tmp_path / name).write_text("")
    asyncio.run(open_rocks(str(tmp_path)).close())


def test_a_file_in_the_way_is_an_error_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("")
    for path in ("kv", "kv/kv"):
        with pytest.raises(KvError, match="folder"):
            open_rocks(str(tmp_path / path))


def swap(db: Rdict) -> None:
    db[b"row/1"] = db[b"row/2"]


def flip(db: Rdict) -> None:
    stored = bytearray(db[b"row/1"])
    stored[3] ^= 1
    db[b"row/1"] = bytes(stored)


def cut(db: Rdict) -> None:
    db[b"row/1"] = db[b"row/1"][:-1]


def nothing(db: Rdict) -> None:
    db[b"row/1"] = b""


async def damage_is_seen(path: Path, damage: Callable[[Rdict], None]) -> bool:
    """Whether a changed row is told by every way to read it, and the others are given."""
    kv = open_rocks(str(path))
    for at in range(4):
        kv.write(put(b"row/%d" % at, b"value %d" % at))
    damage(kv._db)
    seen = 0
    ways: tuple[Callable[[], object], ...] = (
        lambda: kv.get(b"row/1"),
        lambda: kv.scan(b"row/"),
        lambda: kv.scan(b"", reverse=True),
        lambda: expect(kv),
    )
    for way in ways:
        try:
            way()
        except Conflict:
            continue
        except KvDamaged as error:
            assert "row/1" in str(error)
            assert "restore a backup" in str(error)
            seen += 1
    try:
        await kv.backup(str(path.parent / "backup"))
    except KvDamaged:
        seen += 1
    assert kv.get(b"row/3") == b"value 3"
    assert kv.scan(b"row/", after=b"row/1") == [(b"row/2", b"value 2"), (b"row/3", b"value 3")]
    kv.write(put(b"row/1", b"made again"))
    assert kv.get(b"row/1") == b"made again"
    await kv.close()
    return seen == len(ways) + 1


def expect(kv: RocksKv) -> None:
    batch = Batch()
    batch.expect(b"row/1", None)
    kv.write(batch)


@pytest.mark.parametrize("damage", [swap, flip, cut, nothing])
async def test_a_row_that_is_not_what_was_written_is_told(
    tmp_path: Path, damage: Callable[[Rdict], None]
) -> None:
    assert await damage_is_seen(tmp_path / "kv", damage)


async def test_a_checksum_that_is_not_checked_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault of the test above."""
    monkeypatch.setattr(rocks, "crc32", lambda *_: RESIDUE)
    monkeypatch.setattr(rocks, "unseal", lambda key, stored: stored[:-4])
    assert not await damage_is_seen(tmp_path / "kv", flip)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 100])
async def test_a_scan_that_is_told_to_goes_on_behind_damaged_rows(
    tmp_path: Path, limit: int, reverse: bool
) -> None:
    """With as many rows as were asked for, so that a short page is the last one."""
    kv = open_rocks(str(tmp_path))
    for at in range(8):
        kv.write(put(b"row/%d" % at, b"%d" % at))
    for at in (0, 3, 4, 7):
        kv._db.put(b"row/%d" % at, b"no checksum")
    told: list[bytes] = []
    rows = kv.scan(
        b"row/", limit=limit, reverse=reverse, damaged=lambda key, error: told.append(key)
    )
    whole = [b"1", b"2", b"5", b"6"][:: -1 if reverse else 1]
    assert [value for _, value in rows] == whole[:limit]
    if limit == 100:
        assert sorted(told) == [b"row/0", b"row/3", b"row/4", b"row/7"]
        assert kv.stats()["damaged_rows"] == 4
    with pytest.raises(KvDamaged):
        kv.scan(b"row/", reverse=reverse)
    await kv.close()


def test_the_residue_is_that_of_any_sealed_text() -> None:
    for key, value in ((b"k", b""), (b"k", b"v"), (b"key" * 99, bytes(1000))):
        assert crc32(seal(key, value), crc32(key)) == RESIDUE


async def test_without_room_it_is_read_only_and_comes_back_by_itself(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    await kv.commit(put(b"safe", b"1"))
    written = kv.write(put(b"written", b"2"))
    disk.write_error = NO_ROOM
    monkeypatch.setattr(engine, "room_bytes", lambda path: 1 << 20)
    for _ in range(3):
        with pytest.raises(KvFull, match=r"No space left.*make room"):
            kv.write(put(b"refused"))
    with pytest.raises(KvFull, match="make room"):
        await kv.synced(written)
    assert (kv.get(b"safe"), kv.get(b"written"), kv.get(b"refused")) == (b"1", b"2", None)
    assert kv.stats()["writable"] == 0
    assert disk.opened == 1
    disk.write_error = ""
    # The database knows no way back but to be opened anew, for which there is to be room enough.
    with pytest.raises(KvFull, match=r"make room on the disk: \d+ MiB free on it.* there are 1$"):
        kv.write(put(b"refused"))
    monkeypatch.undo()
    sequence = await kv.commit(put(b"after", b"3"))
    assert sequence > written
    assert disk.opened == 2
    assert (kv.stats()["reopened"], kv.stats()["writable"]) == (1, 1)
    assert [key for key, _ in kv.scan(b"")] == [b"after", b"safe", b"written"]
    await kv.close()


async def test_a_failed_flush_fails_all_who_wait_and_their_writes_stay(
    tmp_path: Path, disk: Disk
) -> None:
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    disk.flush_error = errno.ENOSPC
    ends = await asyncio.gather(
        *(kv.commit(put(b"%d" % at)) for at in range(5)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [KvFull] * 5
    assert len(kv.scan(b"")) == 5
    with pytest.raises(KvFull):
        await kv.synced(kv.stats()["sequence"])
    disk.flush_error = 0
    await kv.commit(put(b"after"))
    assert len(kv.scan(b"")) == 6
    assert kv.stats()["synced"] == kv.stats()["sequence"]
    await kv.close()


async def test_no_later_flush_makes_safe_what_a_failed_one_had(tmp_path: Path, disk: Disk) -> None:
    """The system tells of what it could not write once, and then succeeds."""
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    disk.flush_error = errno.EIO
    with pytest.raises(KvError, match="Input/output error"):
        await kv.commit(put(b"a"))
    disk.flush_error = 0
    told: asyncio.Future[KvError | None] = asyncio.get_running_loop().create_future()
    kv.when_synced(kv.stats()["sequence"], told.set_result)
    assert "Input/output error" in str(await told)
    with pytest.raises(KvError, match="Input/output error"):
        await kv.synced(kv.stats()["sequence"])
    with pytest.raises(KvError, match="Input/output error"):
        kv.write(put(b"b"))
    assert kv.stats()["flushes"] == 0
    await kv.close()


async def test_a_failed_write_fails_who_waits_for_a_flush(tmp_path: Path, disk: Disk) -> None:
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    waiting = asyncio.create_task(kv.commit(put(b"a")))
    await asyncio.sleep(0)
    disk.write_error = NO_ROOM
    with pytest.raises(KvFull):
        kv.write(put(b"b"))
    with pytest.raises(KvFull):
        await waiting
    await kv.close()


async def test_it_can_be_read_when_opening_anew_fails_too(tmp_path: Path, disk: Disk) -> None:
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    await kv.commit(put(b"a", b"1"))
    disk.write_error = NO_ROOM
    with pytest.raises(KvFull):
        kv.write(put(b"b"))
    disk.open_error = "still no room"
    for _ in range(2):
        with pytest.raises(KvFull, match="still no room"):
            kv.write(put(b"b"))
        assert kv.get(b"a") == b"1"
        assert kv.scan(b"") == [(b"a", b"1")]
    disk.open_error = disk.write_error = ""
    kv.write(put(b"b"))
    assert len(kv.scan(b"")) == 2
    await kv.close()


async def test_a_backup_ends_with_an_error_when_the_store_is_opened_anew(
    tmp_path: Path, disk: Disk
) -> None:
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    for at in range(2000):
        kv.write(put(b"%d" % at))
    backup = asyncio.create_task(kv.backup(str(tmp_path / "backup")))
    while not list(tmp_path.glob("backup.partial*")):
        await asyncio.sleep(0)
    disk.write_error = NO_ROOM
    with pytest.raises(KvFull):
        kv.write(put(b"x"))
    disk.write_error = ""
    kv.write(put(b"x"))
    with pytest.raises(KvError, match="back up again"):
        await backup
    assert [path.name for path in tmp_path.iterdir()] == ["kv"]
    await kv.close()


async def test_a_store_without_room_is_closed_and_says_so(tmp_path: Path, disk: Disk) -> None:
    path = str(tmp_path / "kv")
    kv = open_rocks(path, opener=disk.open)
    await kv.commit(put(b"a", b"1"))
    disk.write_error = NO_ROOM
    with pytest.raises(KvFull):
        kv.write(put(b"b"))
    await kv.close()
    for use in (lambda: kv.get(b"a"), lambda: kv.write(put(b"b")), lambda: kv.scan(b"")):
        with pytest.raises(KvError, match="closed"):
            use()
    kv = open_rocks(path)
    assert kv.scan(b"") == [(b"a", b"1")]
    await kv.close()


async def test_a_flush_that_fails_while_closing_is_told_and_the_lock_given_up(
    tmp_path: Path, disk: Disk
) -> None:
    path = str(tmp_path / "kv")
    kv = open_rocks(path, opener=disk.open)
    kv.write(put(b"a", b"1"))
    disk.flush_error = errno.ENOSPC
    with pytest.raises(KvFull, match="No space left"):
        await kv.close()
    with pytest.raises(KvError, match="closed"):
        kv.get(b"a")
    await open_rocks(path).close()


async def test_a_cancelled_closing_still_closes(tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    kv = open_rocks(path)
    kv.write(put(b"a", b"1"))
    closing = asyncio.create_task(kv.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    kv = open_rocks(path)
    assert kv.get(b"a") == b"1"
    await kv.close()


async def test_another_failure_is_told_and_not_taken_for_a_full_disk(
    tmp_path: Path, disk: Disk
) -> None:
    kv = open_rocks(str(tmp_path / "kv"), opener=disk.open)
    disk.write_error = "IO error: Input/output error: While appending to file: 000004.log"
    for _ in range(2):
        with pytest.raises(KvError, match="Input/output error") as raised:
            kv.write(put(b"a"))
        assert type(raised.value) is KvError
    assert disk.opened == 1
    assert kv.get(b"a") is None
    await kv.close()


async def test_what_is_lost_while_it_was_full_is_noticed(tmp_path: Path, disk: Disk) -> None:
    """Opened anew, what was written before must be found, synced or not; here it finds the folder
    as it was before, with a mark that fits."""
    path = tmp_path / "kv"
    kv = open_rocks(str(path), opener=disk.open)
    shutil.copytree(path, tmp_path / "before")
    kv.write(put(b"a", b"1"))
    disk.write_error = NO_ROOM
    with pytest.raises(KvFull):
        kv.write(put(b"x"))

    def older(path: str, settings: Options) -> Any:
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "before", path)
        return engine.open_database(path, settings)

    kv._opener = older
    for _ in range(2):
        with pytest.raises(KvDamaged, match="had safe writes up to number"):
            kv.write(put(b"x"))
    await kv.close()

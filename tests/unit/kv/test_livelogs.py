"""Which logs a flush must sync; room behind the end of the newest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from spear.errors import KvDamaged, KvLocked
from spear.kv import livelogs, rocks
from spear.kv.batch import Batch
from spear.kv.livelogs import LiveLogs
from spear.kv.logs import log_names
from spear.kv.rocks import RocksKv, open_rocks
from spear.kv.watermark import LOG_BLOCK_BYTES

FIRST, SECOND = "000004.log", "000009.log"
BUFFER = 256 << 10
RECORD_BYTES = 1024  # so that blocks of the log end where records end
ROWS = 3 * LOG_BLOCK_BYTES // RECORD_BYTES


def key(number: int) -> bytes:
    return b"row/%04d" % number


async def fill(kv: RocksKv, numbers: range, value_bytes: int) -> None:
    for number in numbers:
        batch = Batch()
        batch.put(key(number), os.urandom(value_bytes))
        await kv.commit(batch)


def log(folder: Path) -> Path:
    return folder / max(log_names(str(folder)))


async def aligned(live: Path, copy: Path) -> None:
    """A store as a SIGKILL leaves it, each row a record of RECORD_BYTES, the first block of its log
    as full as it was made by opening it."""
    kv = open_rocks(str(live), write_buffer_bytes=BUFFER)
    kv._db.flush()  # a new log, which begins with a record of ours
    # A record's head, that of its batch, the kind, the lengths of key and value, the checksum.
    await fill(kv, range(ROWS), RECORD_BYTES - 7 - 12 - 1 - 1 - len(key(0)) - 2 - 4)
    shutil.copytree(live, copy)
    await kv.close()


async def test_a_log_is_longer_than_what_is_written(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path), write_buffer_bytes=BUFFER)
    await fill(kv, range(1), 100)
    assert log(tmp_path).stat().st_size == BUFFER
    assert log(tmp_path).stat().st_blocks * 512 < BUFFER / 2
    await kv.close()


async def test_so_is_the_log_that_comes_next(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path), write_buffer_bytes=BUFFER)
    await fill(kv, range(1), 100)
    first = log(tmp_path)
    kv._db.flush()
    await fill(kv, range(1), 100)
    assert log(tmp_path) != first
    assert log(tmp_path).stat().st_size == BUFFER
    await kv.close()


def name_of(descriptor: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


def names_of(found: tuple[list[int], int]) -> tuple[list[str], bool]:
    """The names of the logs, and whether the folder is to be synced."""
    return [name_of(descriptor) for descriptor in found[0]], found[1] >= 0


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[LiveLogs]:
    (tmp_path / FIRST).touch()
    made = LiveLogs(str(tmp_path), 99)
    yield made
    made.close()


def test_the_newest_log_is_always_unsafe_and_the_folder_until_it_was_synced(
    logs: LiveLogs,
) -> None:
    for _ in range(2):  # one that failed is to be done again
        assert names_of(logs.unsafe()) == ([FIRST], True)
    logs.safe()
    for _ in range(2):
        assert names_of(logs.unsafe()) == ([FIRST], False)
        logs.safe()


def test_a_log_is_unsafe_until_a_flush_that_began_when_there_was_a_newer_one(
    logs: LiveLogs, tmp_path: Path
) -> None:
    logs.unsafe()
    (tmp_path / SECOND).touch()  # during the flush
    logs.safe()
    for _ in range(2):
        assert names_of(logs.unsafe()) == ([FIRST, SECOND], True)
    logs.safe()
    assert names_of(logs.unsafe()) == ([SECOND], False)


def test_several_new_logs_come_in_their_order(logs: LiveLogs, tmp_path: Path) -> None:
    logs.unsafe()
    logs.safe()
    for name in ("1000003.log", SECOND, "000012.sst"):
        (tmp_path / name).touch()
    assert names_of(logs.unsafe()) == ([FIRST, SECOND, "1000003.log"], True)


def test_a_log_that_is_gone_needs_no_flush(logs: LiveLogs, tmp_path: Path) -> None:
    logs.unsafe()
    (tmp_path / FIRST).unlink()
    (tmp_path / SECOND).touch()
    assert names_of(logs.unsafe()) == ([SECOND], True)


def test_without_a_watch_each_flush_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        def __init__(self, path: str) -> None:
            pass

        def changed(self) -> bool:
            return True

        def close(self) -> None:
            pass

    monkeypatch.setattr(livelogs, "FolderWatch", Blind)
    (tmp_path / FIRST).touch()
    logs = LiveLogs(str(tmp_path), 99)
    assert names_of(logs.unsafe()) == ([FIRST], True)
    logs.safe()
    (tmp_path / SECOND).touch()
    assert names_of(logs.unsafe()) == ([FIRST, SECOND], True)
    logs.safe()
    assert names_of(logs.unsafe()) == ([SECOND], False)
    logs.close()


def test_what_could_not_be_looked_at_is_looked_at_again(
    logs: LiveLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.unsafe()
    logs.safe()
    (tmp_path / SECOND).touch()

    def refused(*_: object) -> int:
        raise OSError("planted")

    for what in ("listdir", "open"):
        with monkeypatch.context() as broken, pytest.raises(OSError, match="planted"):
            broken.setattr(os, what, refused)
            logs.unsafe()
    assert names_of(logs.unsafe()) == ([FIRST, SECOND], True)


def test_closing_lets_go_of_every_descriptor(tmp_path: Path) -> None:
    (tmp_path / FIRST).touch()
    before = len(os.listdir("/proc/self/fd"))
    logs = LiveLogs(str(tmp_path), 99)
    logs.unsafe()
    for _ in range(2):
        logs.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_is_never_made_shorter(logs: LiveLogs, tmp_path: Path) -> None:
    (tmp_path / FIRST).write_bytes(bytes(100))
    logs.unsafe()
    assert log(tmp_path).stat().st_size == 100


def test_one_that_could_not_be_made_longer_is_tried_again(
    logs: LiveLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: int, length: int) -> None:
        raise OSError("planted")

    with monkeypatch.context() as full:
        full.setattr(os, "ftruncate", refused)
        assert names_of(logs.unsafe()) == ([FIRST], True)
    logs.unsafe()
    assert log(tmp_path).stat().st_size == 99


async def test_what_a_killed_process_wrote_is_found(tmp_path: Path) -> None:
    await aligned(tmp_path / "live", tmp_path / "kv")
    kv = open_rocks(str(tmp_path / "kv"))
    assert [found for found, _ in kv.scan(b"row/")] == [key(number) for number in range(ROWS)]
    await kv.close()


async def test_nothing_is_found_behind_a_hole(tmp_path: Path) -> None:
    """A block of the log that did not reach the disk, with a block behind it that did."""
    await aligned(tmp_path / "live", tmp_path / "kv")
    path = log(tmp_path / "kv")
    data = bytearray(path.read_bytes())
    data[LOG_BLOCK_BYTES : 2 * LOG_BLOCK_BYTES] = bytes(LOG_BLOCK_BYTES)
    path.write_bytes(data)
    with pytest.raises(KvDamaged, match="safe writes up to"):
        open_rocks(str(tmp_path / "kv"))
    kv = open_rocks(str(tmp_path / "kv"), accept_loss=True)
    before = LOG_BLOCK_BYTES // RECORD_BYTES
    assert [found for found, _ in kv.scan(b"row/")] == [key(number) for number in range(before)]
    await kv.close()


async def test_the_hole_would_be_read_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why logs are cut: RocksDB takes the hole for no damage."""
    monkeypatch.setattr(rocks, "cut_logs", lambda folder, tables, lost: [])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test_nothing_is_found_behind_a_hole(tmp_path)


async def test_a_store_that_is_open_is_not_cut(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path), write_buffer_bytes=BUFFER)
    await fill(kv, range(1), 100)
    with pytest.raises(KvLocked, match="this process"):
        open_rocks(str(tmp_path), write_buffer_bytes=BUFFER)
    assert log(tmp_path).stat().st_size == BUFFER
    await kv.close()
    await open_rocks(str(tmp_path)).close()


async def test_a_store_that_does_not_open_is_not_kept(tmp_path: Path) -> None:
    await open_rocks(str(tmp_path)).close()
    (tmp_path / "CURRENT").rename(tmp_path / "elsewhere")
    with pytest.raises(KvDamaged):
        open_rocks(str(tmp_path))
    (tmp_path / "elsewhere").rename(tmp_path / "CURRENT")
    await open_rocks(str(tmp_path)).close()

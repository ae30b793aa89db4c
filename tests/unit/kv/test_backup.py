"""Backups: whole or refused, restored whole or not at all, never over something else."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from spear.errors import AlreadyExists, KvDamaged, KvFormat, KvFull, NotFound
from spear.kv import archive, backup
from spear.kv.archive import HEAD, ArchiveInfo, ArchiveWriter, read_archive, verify
from spear.kv.backup import restore
from spear.kv.batch import Batch
from spear.kv.interface import LocalKv
from spear.kv.memory import open_memory
from spear.kv.rocks import open_rocks

ROWS = {b"row/%04d" % at: os.urandom(at % 50) for at in range(1500)}


async def fill(kv: LocalKv) -> None:
    batch = Batch()
    for key, value in ROWS.items():
        batch.put(key, value)
    await kv.commit(batch)


@pytest.fixture
async def made(tmp_path: Path) -> Path:
    kv = open_memory()
    await fill(kv)
    await kv.backup(str(tmp_path / "backup"))
    await kv.close()
    return tmp_path / "backup"


async def rows_of(folder: Path) -> dict[bytes, bytes]:
    kv = open_rocks(str(folder))
    try:
        return dict(kv.scan(b"", limit=10_000))
    finally:
        await kv.close()


async def test_the_backup_of_one_store_is_restored_as_another(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path / "kv"))
    await fill(kv)
    await kv.backup(str(tmp_path / "backup"))
    kv.write(Batch())
    sequence = kv.stats()["sequence"]
    await kv.close()
    info = verify(str(tmp_path / "backup"))
    assert (info.rows, info.sequence) == (len(ROWS), sequence)
    assert os.stat(tmp_path / "backup").st_mode & 0o777 == 0o600
    (tmp_path / "empty").mkdir()
    for target in ("empty", "deep/er"):
        assert await restore(str(tmp_path / "backup"), str(tmp_path / target)) == info
        assert await rows_of(tmp_path / target) == ROWS
    assert sorted(os.listdir(tmp_path)) == ["backup", "deep", "empty", "kv"]


async def test_a_memory_store_makes_the_same_rows(made: Path) -> None:
    assert dict(read_archive(str(made))) == ROWS


async def test_an_empty_store_has_a_backup_too(tmp_path: Path) -> None:
    kv = open_memory()
    await kv.backup(str(tmp_path / "backup"))
    assert verify(str(tmp_path / "backup")).rows == 0
    await restore(str(tmp_path / "backup"), str(tmp_path / "kv"))
    assert await rows_of(tmp_path / "kv") == {}


async def test_only_a_missing_or_empty_folder_is_restored_into(made: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    (tmp_path / "file").write_text("kept")
    for name in ("full", "file"):
        with pytest.raises(AlreadyExists, match="empty folder"):
            await restore(str(made), str(tmp_path / name))
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "kept"
    with pytest.raises(NotFound, match="no such"):
        await restore(str(tmp_path / "missing"), str(tmp_path / "kv"))
    assert not (tmp_path / "kv").exists()


@pytest.mark.parametrize("seed", range(40))
async def test_a_damaged_backup_is_refused_and_nothing_restored(
    made: Path, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    data = bytearray(made.read_bytes())
    at = dice.randrange(len(data))
    if seed % 4 == 0:
        del data[at:]
    elif seed % 4 == 1:
        data += b"\0"
    else:
        data[at] ^= 1 << dice.randrange(8)
    made.write_bytes(data)
    with pytest.raises((KvDamaged, KvFormat), match="backup"):
        verify(str(made))
    with pytest.raises((KvDamaged, KvFormat), match="backup"):
        await restore(str(made), str(tmp_path / "kv"))
    assert os.listdir(tmp_path) == ["backup"]


def test_a_row_longer_than_any_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    for lengths in ((4097, 1), (1, (16 << 20) + 1), (0xFFFFFFFF, 0xFFFFFFFF)):
        path.write_bytes(
            HEAD.pack(archive.MAGIC, 1, 0) + archive.LENGTHS.pack(*lengths) + bytes(100)
        )
        with pytest.raises(KvDamaged, match="longer than a row can be"):
            verify(str(path))


def test_a_newer_backup_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(HEAD.pack(archive.MAGIC, 2, 0) + bytes(100))
    with pytest.raises(KvFormat, match=r"version 2.*reads 1"):
        verify(str(path))


async def test_a_restore_that_fails_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the file changes after it was verified."""
    info = verify(str(made))

    def changed(path: str) -> ArchiveInfo:
        data = bytearray(made.read_bytes())
        data[-1] ^= 1
        made.write_bytes(data)
        return info

    monkeypatch.setattr(backup, "verify", changed)
    with pytest.raises(KvDamaged):
        await restore(str(made), str(tmp_path / "kv"))
    assert os.listdir(tmp_path) == ["backup"]


def test_an_unfinished_backup_has_no_name(tmp_path: Path) -> None:
    writer = ArchiveWriter(str(tmp_path / "backup"), 1)
    writer.add(ROWS.items())
    assert not (tmp_path / "backup").exists()
    writer.abandon()
    assert os.listdir(tmp_path) == []
    writer = ArchiveWriter(str(tmp_path / "backup"), 1)
    (tmp_path / "backup").write_text("of somebody else")
    with pytest.raises(AlreadyExists):
        writer.finish()
    writer.abandon()
    assert (tmp_path / "backup").read_text() == "of somebody else"
    assert os.listdir(tmp_path) == ["backup"]


async def test_a_disk_without_room_is_told_and_the_beginning_removed(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is not there")
    writer = ArchiveWriter(str(tmp_path / "backup"), 1)
    writer._file.close()
    writer._file = open("/dev/full", "wb")  # noqa: SIM115
    with pytest.raises(KvFull, match="No space"):
        for _ in range(100):
            writer.add(ROWS.items())
    writer.abandon()
    assert os.listdir(tmp_path) == []

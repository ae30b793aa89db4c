"""A damaged store becomes a whole one: what can be read is there, what is lost is told and kept.

Rule: rows are damaged as a bad memory or disk does it, beneath the store.
"""

from __future__ import annotations

import ast
import json
import os
import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from rocksdict import Options, Rdict

from spear.errors import KvDamaged, KvFull
from spear.kv.batch import Batch
from spear.kv.format import FORMAT
from spear.kv.rocks import open_rocks
from spear.kv.rows import unseal as is_whole
from spear.kv.salvage import LOST, Salvaged, check_salvaged, lost_before, salvage

ROWS = {b"row/%05d" % at: os.urandom(64) for at in range(4000)}
BAD = (b"row/00000", b"row/00777", b"row/03999")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Of a store with rows in a table and in the log."""
    kv = open_rocks(str(tmp_path / "kv"))
    batch = Batch()
    for key, value in ROWS.items():
        batch.put(key, value)
    await kv.commit(batch)
    await kv.close()
    return tmp_path / "kv"


def raw(path: Path) -> Rdict:
    return Rdict(str(path), Options(raw_mode=True))


def damage_rows(path: Path) -> dict[bytes, bytes]:
    """What is stored now for each of BAD."""
    db = raw(path)
    stored = {key: b"x" + db[key][1:] for key in BAD}
    for key, value in stored.items():
        db[key] = value
    db.close()
    return stored


async def rows_of(path: Path) -> dict[bytes, bytes]:
    kv = open_rocks(str(path))
    try:
        return dict(kv.scan(b"", limit=10_000))
    finally:
        await kv.close()


async def test_a_whole_store_stays_in_its_place(path: Path) -> None:
    found = await salvage(str(path))
    assert (found.rows, found.lost, found.kept_in) == (4000, [], "")
    assert os.listdir(path.parent) == ["kv"]
    assert await rows_of(path) == ROWS


async def test_damaged_rows_are_told_and_kept_and_all_others_are_there(path: Path) -> None:
    stored = damage_rows(path)
    with pytest.raises(KvDamaged, match="spear node accept-loss"):
        await rows_of(path)
    found = await salvage(str(path))
    assert found.lost == [f"key {key!r}" for key in BAD]
    assert found.rows == 4000 - len(BAD)
    assert await rows_of(path) == {key: ROWS[key] for key in ROWS if key not in BAD}
    db = raw(Path(found.kept_in))
    assert {key: db[key] for key in BAD} == stored
    db.close()


async def test_each_damaged_store_is_kept(path: Path) -> None:
    kept = []
    for _ in range(2):
        db = raw(path)
        db[b"row/bad"] = b"no checksum"
        db.close()
        kept.append((await salvage(str(path))).kept_in)
    assert len(set(kept)) == 2
    assert await rows_of(path) == ROWS


def tables(path: Path) -> list[Path]:
    db = raw(path)
    db.flush()
    db.close()
    return sorted(path.glob("*.sst"), key=lambda table: table.stat().st_size)


def flip(path: Path, text: bytes, by: int = 0) -> None:
    """One bit in the newest table, `by` bytes behind where the text is."""
    table = max(tables(path), key=lambda table: int(table.stem))
    data = bytearray(table.read_bytes())
    data[data.index(text) + by] ^= 8
    table.write_bytes(data)


async def check_told(path: Path, found: Salvaged, rows: dict[bytes, bytes]) -> set[bytes]:
    """Of `rows`, which were there, each is there or told; nothing else is there. The missing."""
    left = await rows_of(path)
    assert left.items() <= rows.items()
    assert len(left) == found.rows
    missing = rows.keys() - left.keys()
    for key in missing:
        assert any(is_told(key, text) for text in found.lost), (key, found.lost)
    return missing


def is_told(key: bytes, text: str) -> bool:
    if not text.startswith("all "):
        return text == f"key {key!r}"
    found = re.fullmatch(
        r"all (?:behind key (b'.*?')|from the beginning) (?:before key (b'.*?')|to the end)", text
    )
    assert found is not None, text
    begin, end = found.groups()
    after_begin = begin is None or key > ast.literal_eval(begin)
    return after_begin and (end is None or key < ast.literal_eval(end))


@pytest.mark.parametrize("by", [0, -1, -8, -12], ids=["value", "sequence", "type", "key"])
async def test_a_flipped_bit_in_a_table_loses_a_range_of_few_rows(path: Path, by: int) -> None:
    """RocksDB refuses all of the block that it is in."""
    flip(path, ROWS[b"row/02000"][:32], by)
    with pytest.raises(KvDamaged, match="spear node accept-loss"):
        await rows_of(path)
    found = await salvage(str(path))
    missing = await check_told(path, found, ROWS)
    assert b"row/02000" in missing
    assert len(missing) < 100
    assert found.kept_in


async def test_damage_in_the_block_of_the_format_row_is_given_up(path: Path) -> None:
    flip(path, ROWS[b"row/00000"][:32])
    found = await salvage(str(path))
    assert b"row/00000" in await check_told(path, found, ROWS)


async def test_a_damaged_format_row_is_given_up(path: Path) -> None:
    db = raw(path)
    db[FORMAT] = b"3xxxx"
    db.close()
    with pytest.raises(KvDamaged, match="spear node accept-loss"):
        await rows_of(path)
    await salvage(str(path))
    assert await rows_of(path) == ROWS


async def test_what_lies_between_two_damaged_blocks_is_there(path: Path) -> None:
    for key in (b"row/01000", b"row/03000"):
        flip(path, ROWS[key][:32])
    found = await salvage(str(path))
    assert len(found.lost) == 2
    missing = await check_told(path, found, ROWS)
    assert {b"row/01000", b"row/03000"} <= missing
    assert len(missing) < 200


async def test_a_block_with_whole_rows_and_another_checksum_is_given_up(path: Path) -> None:
    """Else nothing would be lost, and the store refused for ever."""
    table = tables(path)[-1]
    data = bytearray(table.read_bytes())
    keys = sorted(ROWS)
    at = [data.index(ROWS[key][:32]) for key in keys[:200]]
    step = min(b - a for a, b in pairwise(at))
    begin = next(b for a, b in pairwise(at) if b - a > step + 20)  # of the next block's first row
    data[begin - 20 - 4] ^= 1
    table.write_bytes(data)
    with pytest.raises(KvDamaged):
        await rows_of(path)
    found = await salvage(str(path))
    assert len(found.lost) == 1
    assert await check_told(path, found, ROWS)


async def test_what_was_deleted_does_not_come_back(path: Path) -> None:
    """By a bit in the key of the first row that says so: that of the next ones builds on it."""
    db = raw(path)
    db.flush()
    gone = [b"row/%05d" % at for at in range(2000, 2050)]
    for key in gone:
        db.delete(key)
    db.close()
    flip(path, gone[0], 5)
    found = await salvage(str(path))
    await check_told(path, found, {key: ROWS[key] for key in ROWS if key not in gone})


async def test_what_is_told_is_of_the_pass_that_copies(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row may become unreadable between the two."""
    damage_rows(path)
    passes = [0]

    def unseal(key: bytes, stored: bytes) -> bytes:
        passes[0] += key == b"row/00001"
        if passes[0] == 2 and key == b"row/00050":
            raise KvDamaged("a test damaged it")
        return is_whole(key, stored)

    monkeypatch.setattr("spear.kv.salvage.unseal", unseal)
    found = await salvage(str(path))
    monkeypatch.undo()
    assert "key b'row/00050'" in found.lost
    assert len(await check_told(path, found, ROWS)) == len(BAD) + 1


async def test_what_lies_on_both_sides_of_a_block_without_sense_is_there(path: Path) -> None:
    table = tables(path)[-1]
    data = bytearray(table.read_bytes())
    at = data.index(ROWS[b"row/02000"][:32])
    data[at - 3000 : at + 3000] = b"\xff" * 6000
    table.write_bytes(data)
    found = await salvage(str(path))
    await check_told(path, found, ROWS)
    left = await rows_of(path)
    assert {b"row/00000", b"row/01500", b"row/02500", b"row/03999"} <= left.keys()


async def test_nothing_of_the_new_store_is_left_on_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_rows(path)

    def put(*_: object) -> None:
        raise Exception("IO error: No space left on device")  # as rocksdict does

    with monkeypatch.context() as full:
        full.setattr("spear.kv.rocks._put", put)
        with pytest.raises(KvFull):
            await salvage(str(path))
    assert os.listdir(path.parent) == ["kv"]
    assert len((await salvage(str(path))).lost) == len(BAD)


async def test_what_was_lost_is_listed_beside_what_is_left(path: Path) -> None:
    assert lost_before(str(path)) == ""
    damage_rows(path)
    found = await salvage(str(path))
    listed = lost_before(str(path))
    assert json.loads(Path(listed).read_bytes()) == msgspec.to_builtins(found)
    again = await salvage(str(path))
    assert (again.lost, lost_before(str(path))) == ([], listed)
    assert await rows_of(path) == {key: ROWS[key] for key in ROWS if key not in BAD}


async def test_a_long_key_is_told_whole(path: Path) -> None:
    long = b"row/" + b"x" * 3000 + b"!"
    db = raw(path)
    db[long] = b"no checksum"
    db.close()
    assert (await salvage(str(path))).lost == [f"key {long!r}"]


async def test_what_is_lost_is_on_the_disk_before_the_new_store_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_rows(path)
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    def checked(source: str, to: str) -> None:
        making = f"{path}.salvaging"
        assert making in synced[synced.index(f"{making}/{LOST}") :]
        rename(source, to)

    monkeypatch.setattr("spear.kv.salvage.os.fsync", noted)
    monkeypatch.setattr("spear.kv.salvage.os.rename", checked)
    assert (await salvage(str(path))).lost


@pytest.mark.parametrize("step", range(4))
async def test_one_that_is_cut_short_goes_on(
    path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its steps; a node does not begin with nothing in between."""
    damage_rows(path)
    done, rename = [0], os.rename

    def cut(source: str, to: str) -> None:
        if done[0] == step:
            raise KeyboardInterrupt
        done[0] += 1
        rename(source, to)

    monkeypatch.setattr("spear.kv.salvage.os.rename", cut)
    if step < 3:
        with pytest.raises(KeyboardInterrupt):
            await salvage(str(path))
    monkeypatch.undo()
    if step == 2:
        with pytest.raises(KvDamaged, match="accept-loss"):
            check_salvaged(str(path))
    else:
        check_salvaged(str(path))
    found = await salvage(str(path))
    if step == 2:  # nothing is looked at any more, and it is told all the same
        assert found.lost == [f"key {key!r}" for key in BAD]
        assert (found.rows, found.kept_in) == (4000 - len(BAD), f"{path}.damaged")
    check_salvaged(str(path))
    assert await rows_of(path) == {key: ROWS[key] for key in ROWS if key not in BAD}
    assert sorted(os.listdir(path.parent)) == ["kv", "kv.damaged"]

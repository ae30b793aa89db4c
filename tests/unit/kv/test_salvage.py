"""A damaged store becomes a whole one: what can be read is there, what is lost is told and kept.

Rule: rows are damaged as a bad memory or disk does it, beneath the store.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from spear.errors import KvDamaged
from spear.kv import salvage as salvage_of
from spear.kv.batch import Batch
from spear.kv.rocks import open_rocks
from spear.kv.salvage import check_salvaged, salvage

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


async def test_a_flipped_bit_in_a_table_loses_its_row_and_no_other(path: Path) -> None:
    """RocksDB refuses all of the block that it is in."""
    table = tables(path)[-1]
    data, value = bytearray(table.read_bytes()), ROWS[b"row/02000"]
    data[data.index(value[:32])] ^= 1
    table.write_bytes(data)
    with pytest.raises(KvDamaged, match="spear node accept-loss"):
        await rows_of(path)
    found = await salvage(str(path))
    assert found.lost == ["key b'row/02000'"]
    assert await rows_of(path) == {key: ROWS[key] for key in ROWS if key != b"row/02000"}


async def test_what_lies_on_both_sides_of_a_block_without_sense_is_there(path: Path) -> None:
    table = tables(path)[-1]
    data = bytearray(table.read_bytes())
    at = data.index(ROWS[b"row/02000"][:32])
    data[at - 3000 : at + 3000] = b"\xff" * 6000
    table.write_bytes(data)
    found = await salvage(str(path))
    assert found.lost
    left = await rows_of(path)
    assert left.items() <= ROWS.items()
    assert {b"row/00000", b"row/01500", b"row/02500", b"row/03999"} <= left.keys()
    assert len(left) == found.rows


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

    monkeypatch.setattr(salvage_of.os, "rename", cut)
    if step < 3:
        with pytest.raises(KeyboardInterrupt):
            await salvage(str(path))
    monkeypatch.undo()
    if step == 2:
        with pytest.raises(KvDamaged, match="accept-loss"):
            check_salvaged(str(path))
    else:
        check_salvaged(str(path))
    await salvage(str(path))
    check_salvaged(str(path))
    assert await rows_of(path) == {key: ROWS[key] for key in ROWS if key not in BAD}
    assert sorted(os.listdir(path.parent)) == ["kv", "kv.damaged"]

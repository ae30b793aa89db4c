"""A scan that is told to goes on behind blocks that cannot be read, and tells what it left out.

Rule: files are damaged as a bad disk does it, beneath the store.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from spear.errors import KvDamaged
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks

# Text, as most rows have it: blocks are compressed.
ROWS = {b"row/%08x" % (at * 999_983): b"%d: what a row says " % at * 5 for at in range(3000)}
KEYS = sorted(ROWS)
OTHERS = {b"other/%d" % at: b"%d" % at for at in range(500)}
Told = list[tuple[bytes, str]]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Of a store whose rows lie in one table."""
    kv = open_rocks(str(tmp_path / "kv"))
    batch = Batch()
    for key, value in {**ROWS, **OTHERS}.items():
        batch.put(key, value)
    await kv.commit(batch)
    await kv.close()
    flush(tmp_path / "kv")
    return tmp_path / "kv"


def flush(path: Path) -> None:
    db = Rdict(str(path), Options(raw_mode=True))
    db.flush()
    db.close()


def damage(path: Path, first: float, last: float = 0, step: int = 1) -> None:
    """Bytes of the newest table, from one part of it up to another; without it one byte. Its end
    has the index and the filter, its beginning the row of the format, without which no store is
    opened."""
    table = max(path.glob("*.sst"), key=lambda table: int(table.stem))
    data = bytearray(table.read_bytes())
    begin = int(len(data) * first)
    for at in range(begin, int(len(data) * last) or begin + 1, step):
        data[at] ^= 0x18
    table.write_bytes(data)


def scanned(kv: RocksKv, prefix: bytes, *, limit: int, reverse: bool) -> tuple[list[bytes], Told]:
    """All pages."""
    found: list[bytes] = []
    told: Told = []
    after = b""

    def tell(key: bytes, error: KvDamaged) -> None:
        if (key, str(error)) not in told:
            told.append((key, str(error)))

    while page := kv.scan(prefix, after=after, limit=limit, reverse=reverse, damaged=tell):
        assert len(page) == limit or not kv.scan(
            prefix, after=page[-1][0], reverse=reverse, damaged=lambda *_: None
        ), "a short page is the last one"
        assert all({**ROWS, **OTHERS}[key] == value for key, value in page)
        found += [key for key, _ in page]
        after = page[-1][0]
    assert found == sorted(found, reverse=reverse)
    return found, told


def told_of(told: Told) -> set[bytes]:
    """The rows of ROWS that lie in what was told."""
    missing: set[bytes] = set()
    for key, text in told:
        said = re.match(
            r"all (?:behind key (b'.*?')|from the beginning) (?:before key (b'.*?')|to the end): ",
            text,
        )
        assert said is not None, text
        assert "spear node accept-loss" in text
        first, last = (eval(name) if name else b"" for name in said.groups())
        assert key == first or (not first and f"scanning {key!r} found" in text)
        missing.update(one for one in KEYS if first < one and (not last or one < last))
    return missing


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [7, 1000])
async def test_flipped_bytes_lose_their_blocks_alone(
    path: Path, seed: int, reverse: bool, limit: int
) -> None:
    rng = random.Random(seed)
    places = [rng.uniform(0.1, 0.9) for _ in range(1 + seed % 3)]
    for place in places:
        damage(path, place)
    kv = open_rocks(str(path))
    found, told = scanned(kv, b"row/", limit=limit, reverse=reverse)
    others, told_of_others = scanned(kv, b"other/", limit=limit, reverse=reverse)
    missing = set(ROWS) - set(found)
    assert missing <= told_of(told)
    assert len(missing) <= 120 * len(places)
    assert len(told) + len(told_of_others) >= 1
    assert len(OTHERS) - len(others) <= 120 * len(places)
    assert kv.stats()["damaged_rows"] >= len(told)
    with pytest.raises(KvDamaged, match="spear node accept-loss"):
        for prefix in (b"row/", b"other/"):
            kv.scan(prefix, limit=5000, reverse=reverse)
    await kv.close()
    await open_rocks(str(path)).close()  # nobody has its lock


@pytest.mark.parametrize("reverse", [False, True])
async def test_many_blocks_without_any_sense_are_one_range(path: Path, reverse: bool) -> None:
    damage(path, 0.4, 0.6)
    kv = open_rocks(str(path))
    found, told = scanned(kv, b"row/", limit=100, reverse=reverse)
    assert len(told) == 1
    assert set(ROWS) - set(found) <= told_of(told)
    assert {KEYS[0], KEYS[-1]} <= set(found)
    await kv.close()


@pytest.mark.parametrize("reverse", [False, True])
async def test_damage_across_the_ends_of_a_prefix(path: Path, reverse: bool) -> None:
    damage(path, 0.3, 0.6)
    kv = open_rocks(str(path))
    ends = set[tuple[bool, bool]]()
    for digit in b"0123456789ab":
        prefix = b"row/%c" % digit
        rows = [key for key in KEYS if key.startswith(prefix)]
        found, told = scanned(kv, prefix, limit=100, reverse=reverse)
        assert found or told[0][1].startswith("all from the beginning to the end: ")
        assert len(told) <= 1
        assert set(rows) - set(found) <= told_of(told)
        ends.add((rows[0] in found, rows[-1] in found))
    assert ends == {(True, True), (True, False), (False, False), (False, True)}
    await kv.close()
    await open_rocks(str(path)).close()  # nobody has its lock


async def test_what_was_deleted_does_not_come_back(path: Path) -> None:
    gone = KEYS[1000:1600]
    kv = open_rocks(str(path))
    batch = Batch()
    for key in gone:
        batch.delete(key)
    for at in range(60):
        batch.put(b"a/%d" % at, os.urandom(100))  # so that theirs are not the first blocks
    await kv.commit(batch)
    await kv.close()
    flush(path)
    damage(path, 0.7, 0.8, 100)
    kv = open_rocks(str(path))
    for reverse in (False, True):
        found, told = scanned(kv, b"row/", limit=100, reverse=reverse)
        assert not set(gone) & set(found)
        assert set(ROWS) - set(gone) - set(found) <= told_of(told)
        assert told
    await kv.close()

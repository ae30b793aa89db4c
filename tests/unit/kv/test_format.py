"""The version of the layout: the step from bare values, cut short anywhere; newer ones refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from spear.errors import KvDamaged, KvFormat
from spear.kv import format
from spear.kv.rocks import open_rocks
from spear.kv.rows import seal, unseal
from spear.kv.watermark import NAME

ROWS = {b"row/%05d" % at: b"value %d" % at * (at % 7) for at in range(2500)}


def raw(path: Path) -> Rdict:
    return Rdict(str(path), Options(raw_mode=True))


@pytest.fixture
def version_0(tmp_path: Path) -> Path:
    """Bare values, no format row, no mark."""
    db = raw(tmp_path / "kv")
    for key, value in ROWS.items():
        db[key] = value
    db.close()
    return tmp_path / "kv"


async def rows_of(path: Path) -> dict[bytes, bytes]:
    kv = open_rocks(str(path))
    try:
        return dict(kv.scan(b"", limit=10_000))
    finally:
        await kv.close()


async def test_version_0_becomes_the_current_one_and_stays_it(version_0: Path) -> None:
    assert await rows_of(version_0) == ROWS
    assert await rows_of(version_0) == ROWS
    db = raw(version_0)
    assert unseal(format.FORMAT, db[format.FORMAT]) == b"3"
    assert db.get(format.PROGRESS) is None
    db.close()


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
async def test_a_step_cut_short_goes_on(version_0: Path, writes: int) -> None:
    db = raw(version_0)

    class Cut(Exception):
        pass

    class CutShort:
        left = writes

        def __getattr__(self, name: str) -> object:
            return getattr(db, name)

        def write(self, batch: object) -> None:
            if not self.left:
                raise Cut
            self.left -= 1
            db.write(batch)

    with pytest.raises(Cut):
        format.settle(CutShort(), str(version_0), marked=False)
    db.close()
    assert await rows_of(version_0) == ROWS


@pytest.mark.parametrize("before", [b"1", b"2"])
async def test_an_earlier_version_keeps_its_rows_and_is_closed_to_who_knows_that_one(
    tmp_path: Path, before: bytes
) -> None:
    path = tmp_path / "kv"
    await open_rocks(str(path)).close()
    db = raw(path)
    db[format.FORMAT] = seal(format.FORMAT, before)
    db[b"row"] = seal(b"row", b"of an earlier version")
    db.close()
    assert await rows_of(path) == {b"row": b"of an earlier version"}
    db = raw(path)
    assert unseal(format.FORMAT, db[format.FORMAT]) == b"3"
    db.close()


@pytest.mark.parametrize("found", [b"4", b"999"])
async def test_a_newer_format_is_refused_and_left_as_it_is(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "kv"
    await open_rocks(str(path)).close()
    db = raw(path)
    db[format.FORMAT] = seal(format.FORMAT, found)
    db[b"row"] = b"of a layout to come"
    db.close()
    with pytest.raises(KvFormat, match=f"format {found.decode()}.*up to 3.*newer"):
        open_rocks(str(path))
    db = raw(path)
    assert dict(db.items()) == {
        format.FORMAT: seal(format.FORMAT, found),
        b"row": b"of a layout to come",
    }
    db.close()


def lost(db: Rdict) -> None:
    del db[format.FORMAT]
    db[b"other"] = b""  # so that the sequence is found again


def changed(db: Rdict) -> None:
    db[format.FORMAT] = b"1...."


def no_number(db: Rdict) -> None:
    db[format.FORMAT] = seal(format.FORMAT, b"one")


@pytest.mark.parametrize("damage", [lost, changed, no_number])
async def test_a_damaged_format_row_is_not_taken_for_an_old_layout(
    tmp_path: Path, damage: Callable[[Rdict], None]
) -> None:
    path = tmp_path / "kv"
    await open_rocks(str(path)).close()
    assert (path / NAME).exists()
    db = raw(path)
    damage(db)
    db.close()
    with pytest.raises(KvDamaged, match="format"):
        open_rocks(str(path))


async def test_a_lost_format_row_can_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "kv"
    await open_rocks(str(path)).close()
    db = raw(path)
    del db[format.FORMAT]
    db[b"row"] = seal(b"row", b"kept")
    db.close()
    kv = open_rocks(str(path), accept_loss=True)
    assert kv.get(b"row") == b"kept"
    await kv.close()
    assert await rows_of(path) == {b"row": b"kept"}

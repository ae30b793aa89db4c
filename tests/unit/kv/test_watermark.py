"""The mark of what is safe: torn writes, old marks, a manifest that lost its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from spear.errors import KvDamaged
from spear.kv.watermark import (
    LOG_BLOCK_BYTES,
    NAME,
    SLOT_BYTES,
    STRIDE,
    Mark,
    Watermark,
    read_mark,
    whole_records_end,
)

MANIFEST = "MANIFEST-000007"


def record(size: int) -> bytes:
    return b"crc!" + size.to_bytes(2, "little") + b"\1" + bytes(size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "CURRENT").write_text(f"{MANIFEST}\n")
    (tmp_path / MANIFEST).write_bytes(record(50) + record(20))
    return tmp_path


def test_a_mark_is_read_as_it_was_set(folder: Path) -> None:
    assert read_mark(str(folder)) is None
    mark = Watermark(str(folder), 5)
    assert read_mark(str(folder)) == Mark(5, MANIFEST, 84)
    mark.advance(9, mark.tables_bytes())
    assert read_mark(str(folder)) == Mark(9, MANIFEST, 84)
    with (folder / MANIFEST).open("ab") as file:
        file.write(record(1))
    mark.advance(10, mark.tables_bytes())
    mark.close()
    assert read_mark(str(folder)) == Mark(10, MANIFEST, 92)


@pytest.mark.parametrize("kept", range(SLOT_BYTES))
def test_a_torn_write_leaves_the_mark_before_it(folder: Path, kept: int) -> None:
    mark = Watermark(str(folder), 5)
    before = (folder / NAME).read_bytes()
    mark.advance(6, mark.tables_bytes())
    after = (folder / NAME).read_bytes()
    mark.close()
    (folder / NAME).write_bytes(after[:kept] + before[kept:])  # the slot that stands first
    found = read_mark(str(folder))
    assert found is not None
    assert found.sequence in (5, 6)


def test_two_bad_slots_are_damage(folder: Path) -> None:
    Watermark(str(folder), 5).close()
    data = bytearray((folder / NAME).read_bytes())
    data[9] ^= 1
    (folder / NAME).write_bytes(data)
    assert read_mark(str(folder)) is not None
    data[STRIDE + 9] ^= 1
    for text in (bytes(data), b"", b"x"):
        (folder / NAME).write_bytes(text)
        with pytest.raises(KvDamaged, match="spear node accept-loss"):
            read_mark(str(folder))


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:61] + b"\xff" + d[62:]])
def test_a_manifest_without_its_end_is_damage(folder: Path, damage: object) -> None:
    Watermark(str(folder), 5).close()
    data = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(damage(data))  # type: ignore[operator]
    with pytest.raises(KvDamaged, match="57 of them"):
        read_mark(str(folder))
    (folder / MANIFEST).unlink()
    with pytest.raises(KvDamaged, match="0 of them"):
        read_mark(str(folder))
    (folder / "CURRENT").write_text("MANIFEST-000008\n")  # of another nothing is known
    assert read_mark(str(folder)) is not None


def test_records_are_followed_over_the_blocks() -> None:
    first = record(LOG_BLOCK_BYTES - 7 - 3)  # three bytes are too few for a head
    data = first + bytes(3) + record(10)
    assert whole_records_end(data) == len(data)
    assert whole_records_end(data[:-1]) == len(first)
    assert whole_records_end(b"") == 0
    assert whole_records_end(record(LOG_BLOCK_BYTES)) == 0  # longer than its block

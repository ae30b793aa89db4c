"""What a power cut leaves of two logs that were not synced: writes before the gap, no others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spear.errors import KvDamaged
from spear.kv.batch import Batch
from spear.kv.logs import BATCH, HEAD, first_gap, spanned
from spear.kv.rocks import open_rocks
from spear.kv.watermark import NAME as MARK

ROWS = 10


def row(number: int) -> Batch:
    batch = Batch()
    batch.put(b"row/%02d" % number, b"%d" % number)
    return batch


def records(data: bytes) -> list[bytes]:
    """Of a log of small records, each whole in one piece."""
    found, at = [], 0
    while at < len(data):
        end = at + HEAD.size + HEAD.unpack_from(data, at)[0]
        found.append(data[at:end])
        at = end
    return found


class Cut:
    """A store as it was while it was open, its log as records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.log,) = folder.glob("*.log")
        self.records = records(self.log.read_bytes())
        self.next = folder / f"{int(self.log.stem) + 1:06}.log"

    async def found(self) -> list[int]:
        kv = open_rocks(str(self.folder))
        rows = [int(value) for _, value in kv.scan(b"row/")]
        await kv.close()
        return rows


@pytest.fixture
async def cut(tmp_path: Path) -> Cut:
    """Its rows are the last ones of its log; only the first five were told to be safe."""
    kv = open_rocks(str(tmp_path / "kv"))
    for number in range(1, 6):
        await kv.commit(row(number))
    mark = (tmp_path / "kv" / MARK).read_bytes()
    for number in range(6, ROWS + 1):
        kv.write(row(number))
    shutil.copytree(tmp_path / "kv", tmp_path / "cut", ignore=shutil.ignore_patterns("LOCK"))
    (tmp_path / "cut" / MARK).write_bytes(mark)
    os.chmod(tmp_path / "cut", 0o700)
    await kv.close()
    return Cut(tmp_path / "cut")


@pytest.mark.parametrize("tail", [b"", bytes(200)], ids=["at its end", "with zeros"])
async def test_what_lies_behind_a_gap_between_logs_is_not_found(cut: Cut, tail: bytes) -> None:
    cut.log.write_bytes(b"".join(cut.records[:-4]) + tail)
    cut.next.write_bytes(b"".join(cut.records[-2:]))
    assert await cut.found() == [1, 2, 3, 4, 5, 6]
    assert await cut.found() == [1, 2, 3, 4, 5, 6]


async def test_logs_that_follow_one_another_are_all_read(cut: Cut) -> None:
    cut.log.write_bytes(b"".join(cut.records[:-4]))
    cut.next.write_bytes(b"".join(cut.records[-4:]))
    assert first_gap(str(cut.folder)) is None
    assert await cut.found() == list(range(1, ROWS + 1))


async def test_a_gap_before_what_was_safe_is_damage_and_nothing_is_removed(cut: Cut) -> None:
    cut.log.write_bytes(b"".join(cut.records[:-8]))
    cut.next.write_bytes(b"".join(cut.records[-4:]))
    with pytest.raises(KvDamaged, match="had safe writes up to number"):
        await cut.found()
    assert cut.next.exists()


def test_a_log_tells_its_sequence_numbers_as_far_as_its_records_are_whole(cut: Cut) -> None:
    first, end = spanned(str(cut.log))
    counts = [BATCH.unpack_from(record, HEAD.size)[1] for record in cut.records]
    assert (first, end) == (1, 1 + sum(counts))
    data = cut.log.read_bytes()
    for length in range(len(data)):
        cut.log.write_bytes(data[:length])
        whole, at = 0, 0
        for record, count in zip(cut.records, counts, strict=True):
            at += len(record)
            whole += count if at <= length else 0
        assert spanned(str(cut.log)) == ((1, 1 + whole) if whole else (0, 0))

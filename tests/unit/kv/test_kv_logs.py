"""Where the logs of a store end, and where one does not go on with the next."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kv_marks import note_what_is_safe
from reference.logwalk import BATCH, HEAD

from spear.errors import KvDamaged
from spear.kv.batch import Batch
from spear.kv.logs import Tables, cut_logs, first_gap, read_log, read_logs
from spear.kv.rocks import open_rocks
from spear.kv.watermark import LOG_BLOCK_BYTES
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


def spanned(path: Path) -> tuple[int, int]:
    found = read_log(1, str(path))
    return found.first, found.next


def no_tables() -> Tables:
    return Tables(0, 0)


def allow(last: int) -> None: ...


class Cut:
    """A store as it was while it was open, its log as records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.log,) = folder.glob("*.log")
        cut_logs(str(folder), no_tables, allow)  # of its room
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
    assert first_gap(read_logs(str(cut.folder))) is None
    assert await cut.found() == list(range(1, ROWS + 1))


async def test_a_gap_is_one_also_where_loss_is_accepted(cut: Cut) -> None:
    cut.log.write_bytes(b"".join(cut.records[:-8]))
    cut.next.write_bytes(b"".join(cut.records[-4:]))
    kv = open_rocks(str(cut.folder), accept_loss=True)
    assert [int(value) for _, value in kv.scan(b"row/")] == [1, 2]
    await kv.close()


async def test_a_torn_log_whose_rows_are_in_a_table_is_no_gap(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path / "kv"))
    for number in range(1, 6):
        await kv.commit(row(number))
    (old,) = (tmp_path / "kv").glob("*.log")
    data = old.read_bytes()
    kv._db.flush()
    for number in range(6, ROWS + 1):
        await kv.commit(row(number))
    shutil.copytree(tmp_path / "kv", tmp_path / "cut")
    await kv.close()
    (tmp_path / "cut" / old.name).write_bytes(data[:100])
    kv = open_rocks(str(tmp_path / "cut"))
    assert [int(value) for _, value in kv.scan(b"row/")] == list(range(1, ROWS + 1))
    await kv.close()


async def test_only_rocksdbs_logs_count(tmp_path: Path) -> None:
    await open_rocks(str(tmp_path)).close()
    (tmp_path / "old.log").write_bytes(b"mine")
    kv = open_rocks(str(tmp_path))
    await kv.commit(row(1))
    await kv.close()
    assert (tmp_path / "old.log").read_bytes() == b"mine"


async def test_a_gap_before_what_was_safe_is_damage_and_nothing_is_removed(cut: Cut) -> None:
    cut.log.write_bytes(b"".join(cut.records[:-8]))
    cut.next.write_bytes(b"".join(cut.records[-4:]))
    with pytest.raises(KvDamaged, match="had safe writes up to number"):
        await cut.found()
    assert cut.next.exists()


def test_a_log_tells_its_sequence_numbers_as_far_as_its_records_are_whole(cut: Cut) -> None:
    first, end = spanned(cut.log)
    counts = [BATCH.unpack_from(record, HEAD.size)[1] for record in cut.records]
    assert (first, end) == (1, 1 + sum(counts))
    data = cut.log.read_bytes()
    for length in range(len(data)):
        cut.log.write_bytes(data[:length])
        whole, at = 0, 0
        for record, count in zip(cut.records, counts, strict=True):
            at += len(record)
            whole += count if at <= length else 0
        assert spanned(cut.log) == ((1, 1 + whole) if whole else (0, 0))


RECORD = b"crc!" + b"\x0c\0" + b"\x01" + BATCH.pack(1, 1)  # the least that there is
SIZE = len(RECORD)


def end_of(data: bytes, folder: Path) -> int:
    path = folder / "000004.log"
    path.write_bytes(data)
    return read_log(4, str(path)).end


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (bytes(100), 0),
        (RECORD, SIZE),
        (RECORD + bytes(50), SIZE),
        (RECORD + bytes(6), SIZE + 6),  # too short for a head: of a log that ends so
        (RECORD[:7] + bytes(12) + RECORD + bytes(7), 2 * SIZE),
        (RECORD + bytes(7) + RECORD, SIZE),
        (RECORD[:4] + b"\xff\xff\x01" + bytes(100), 0),  # longer than its block
        (RECORD[:4] + b"\xff\x7f\x01" + bytes(100), 0),
        (RECORD[:4] + b"\xf8\x7f\x01" + bytes(100), 107),  # longer than the file
        (RECORD[:4] + b"\2\0\1ab" + bytes(100), 109),  # shorter than a batch
    ],
)
def test_a_log_ends_where_zeros_stand_for_a_record(data: bytes, end: int, tmp_path: Path) -> None:
    """Damage of another kind does not end it: that is RocksDB's to find."""
    assert end_of(data, tmp_path) == end


def test_a_log_ends_where_a_record_of_another_kind_stands(tmp_path: Path) -> None:
    for kind in range(5, 256):
        assert end_of(RECORD + RECORD[:6] + bytes((kind,)) + RECORD[7:], tmp_path) == SIZE


def test_a_block_may_end_in_zeros(tmp_path: Path) -> None:
    size = LOG_BLOCK_BYTES - 7 - 6
    batch = BATCH.pack(1, 1).ljust(size, b"a")
    block = b"crc!" + size.to_bytes(2, "little") + b"\x01" + batch + bytes(6)
    assert len(block) == LOG_BLOCK_BYTES
    assert end_of(block + RECORD + bytes(40), tmp_path) == LOG_BLOCK_BYTES + SIZE


def test_what_stands_behind_the_end_of_a_log_is_cut(tmp_path: Path) -> None:
    (tmp_path / "000004.log").write_bytes(RECORD)
    (tmp_path / "000005.log").write_bytes(RECORD[:7] + BATCH.pack(2, 1) + bytes(40))
    (tmp_path / "LOG").write_bytes(bytes(40))
    cut_logs(str(tmp_path), no_tables, allow)
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {
        "000004.log": SIZE,
        "000005.log": SIZE,
        "LOG": 40,
    }


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11])
async def test_a_torn_end_that_looks_like_another_kind_of_record(
    cut: Cut, kind: int, blocks: int
) -> None:
    """RocksDB would search behind it for ever, in the call that opens the store. Of two blocks the
    first goes on with a record that is longer than it."""
    data = cut.log.read_bytes()
    if blocks == 2:
        data += (os.urandom(4) + b"\xff\xff\x01").ljust(LOG_BLOCK_BYTES - len(data), b"x")
    torn = os.urandom(4) + b"\x71\x7d" + bytes((kind,)) + os.urandom(2000)
    cut.log.write_bytes(data + torn)
    program = (
        "import asyncio; from spear.kv.rocks import open_rocks\n"
        f"kv = open_rocks({str(cut.folder)!r}); asyncio.run(kv.close())"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert await cut.found() == list(range(1, ROWS + 1))


async def test_a_torn_end_before_what_was_safe_is_damage_and_nothing_is_cut(cut: Cut) -> None:
    data = b"".join(cut.records[:-8]) + RECORD[:6] + b"\x05" + b"".join(cut.records[-4:])
    cut.log.write_bytes(data)
    with pytest.raises(KvDamaged, match="had safe writes up to number"):
        await cut.found()
    assert cut.log.read_bytes() == data


TORN = RECORD[:6] + b"\x05" + b"what a power cut left of a later record"


async def test_a_torn_log_before_the_last_is_damage_and_nothing_is_cut(cut: Cut) -> None:
    """Where the next one does not go on with it, and what was safe is missing between them."""
    first, second = b"".join(cut.records[:-8]) + TORN, b"".join(cut.records[-4:])
    cut.log.write_bytes(first)
    cut.next.write_bytes(second)
    with pytest.raises(KvDamaged, match="had safe writes up to number"):
        await cut.found()
    assert (cut.log.read_bytes(), cut.next.read_bytes()) == (first, second)


async def test_a_log_torn_from_its_beginning_is_damage_and_not_cut(tmp_path: Path) -> None:
    """Though nothing of it is left to count, and the rows of the log before are in a table."""
    kv = open_rocks(str(tmp_path / "kv"))
    await kv.commit(row(1))
    kv._db.flush()
    await kv.commit(row(2))
    note_what_is_safe(kv)
    shutil.copytree(tmp_path / "kv", tmp_path / "cut")
    await kv.close()
    log = max((tmp_path / "cut").glob("*.log"))
    log.write_bytes(TORN)
    with pytest.raises(KvDamaged, match="had safe writes up to number"):
        open_rocks(str(tmp_path / "cut"))
    assert log.read_bytes() == TORN


async def test_a_torn_log_with_which_the_next_one_goes_on_loses_nothing(cut: Cut) -> None:
    cut.log.write_bytes(b"".join(cut.records[:-4]) + TORN)
    cut.next.write_bytes(b"".join(cut.records[-4:]))
    assert await cut.found() == list(range(1, ROWS + 1))


async def test_a_torn_log_needs_no_folder_elsewhere(
    cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may have no place to write to but its data."""
    cut.log.write_bytes(b"".join(cut.records) + TORN)
    monkeypatch.setattr("tempfile.tempdir", str(cut.folder / "missing"))
    names = {path.name for path in cut.folder.iterdir() if path.is_dir()}
    assert await cut.found() == list(range(1, ROWS + 1))
    assert {path.name for path in cut.folder.iterdir() if path.is_dir()} == names


async def test_a_torn_log_that_no_one_needs_any_more_is_no_damage(tmp_path: Path) -> None:
    kv = open_rocks(str(tmp_path / "kv"))
    await kv.commit(row(1))
    (old,) = (tmp_path / "kv").glob("*.log")
    kv._db.flush()
    await kv.commit(row(2))
    shutil.copytree(tmp_path / "kv", tmp_path / "cut")
    await kv.close()
    (tmp_path / "cut" / old.name).write_bytes(TORN)
    kv = open_rocks(str(tmp_path / "cut"))
    assert [int(value) for _, value in kv.scan(b"row/")] == [1, 2]
    await kv.close()


async def test_what_is_in_a_table_is_left_whatever_the_logs_say(tmp_path: Path) -> None:
    """Of a log that no one needs any more its beginning, of the one behind it nothing."""
    kv = open_rocks(str(tmp_path / "kv"))
    for number in range(1, 6):
        await kv.commit(row(number))
    (old,) = (tmp_path / "kv").glob("*.log")
    begun = old.read_bytes()[:100]
    kv._db.flush()
    mark = (tmp_path / "kv" / MARK).read_bytes()
    kv.write(row(6))
    shutil.copytree(tmp_path / "kv", tmp_path / "cut")
    await kv.close()
    max((tmp_path / "cut").glob("*.log")).write_bytes(TORN)
    (tmp_path / "cut" / old.name).write_bytes(begun)
    (tmp_path / "cut" / MARK).write_bytes(mark)
    kv = open_rocks(str(tmp_path / "cut"))
    assert [int(value) for _, value in kv.scan(b"row/")] == [1, 2, 3, 4, 5]
    await kv.close()

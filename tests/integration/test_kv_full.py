"""A disk that is really full, and a limit on the length of files: told, read-only, and back again
by itself, with everything that was written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import small_disk

from spear.errors import KvFull
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks

BUFFER_BYTES = 256 << 10

LIMITED = """
import asyncio, os, resource, sys
from spear.errors import KvFull
from spear.kv.batch import Batch
from spear.kv.rocks import open_rocks

async def main():
    kv = open_rocks(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    number, written, refused = 0, {}, 0
    while not refused and number < 10_000:
        key, value, number = b"%d" % number, os.urandom(1000), number + 1
        batch = Batch()
        batch.put(key, value)
        try:
            kv.write(batch)
            written[key] = value
        except KvFull as error:
            assert "File too large" in str(error), error
            refused += 1
    assert refused
    assert dict(kv.scan(b"", limit=20_000)) == written
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await kv.commit(batch)
    written[key] = value
    assert dict(kv.scan(b"", limit=20_000)) == written
    assert kv.stats()["reopened"] == 1, kv.stats()
    await kv.close()
    kv = open_rocks(sys.argv[1])
    assert dict(kv.scan(b"", limit=20_000)) == written
    await kv.close()

asyncio.run(main())
print("done")
"""


def test_a_limit_on_the_length_of_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "kv")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as path:
        yield path


async def test_a_full_disk(disk: Path) -> None:
    path = str(disk / "kv")
    kv = open_rocks(path, write_buffer_bytes=BUFFER_BYTES)
    written: dict[bytes, bytes] = {}
    filler = disk / "filler"
    for turn in range(3):
        free = os.statvfs(disk)
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - (1 << 20)))
        await fill_up(kv, written, turn)
        assert dict(kv.scan(b"", limit=100_000)) == written
        refuse_one(kv, disk, written)
        filler.unlink()
        await kv.commit(batch_of(b"after", b"%d" % turn))
        written[b"after"] = b"%d" % turn
        assert dict(kv.scan(b"", limit=100_000)) == written
        assert kv.stats()["reopened"] > turn
    await kv.close()
    kv = open_rocks(path, write_buffer_bytes=BUFFER_BYTES)
    assert dict(kv.scan(b"", limit=100_000)) == written
    await kv.close()


def refuse_one(kv: RocksKv, disk: Path, written: dict[bytes, bytes]) -> None:
    """A write without room. RocksDB deletes files in the background, which may make room again:
    then the store goes on, and that room is taken too."""
    for turn in range(100):
        with (disk / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        key = b"more %d" % turn
        try:
            kv.write(batch_of(key, bytes(1000)))
        except KvFull as error:
            assert "No space left" in str(error)
            return
        written[key] = bytes(1000)
    raise AssertionError("a full disk takes every write")


async def fill_up(kv: RocksKv, written: dict[bytes, bytes], turn: int) -> None:
    for number in range(100_000):
        key, value = b"%d/%d" % (turn, number), os.urandom(1000)
        try:
            await kv.commit(batch_of(key, value))
        except KvFull:
            # The flush may have failed after the write: then it is there, and stays.
            found = kv.get(key)
            assert found in (None, value)
            if found is not None:
                written[key] = value
            return
        written[key] = value
    raise AssertionError("the disk did not become full")


def batch_of(key: bytes, value: bytes) -> Batch:
    batch = Batch()
    batch.put(key, value)
    return batch

"""Damages copies of a metadata store and opens them: one line a trial says how it went.

    python tests/kv_damage.py FOLDER SEED TRIALS FAULT

The rule: everything is as it was written, or a KvError says that it is not. A trial that ends the
process is seen by who started it. `make` leaves a store as a SIGKILL does, its rows in two tables
and in the log.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from spear.errors import KvError
from spear.kv import rocks, watermark
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks

ROWS = 600
KINDS = (".log", ".sst", "MANIFEST", "CURRENT", "SPEAR-SYNCED", "OPTIONS", "rocksdict", "IDENTITY")


def row(number: int) -> tuple[bytes, bytes]:
    return b"row/%04d" % number, random.Random(number).randbytes(300)


async def make(folder: Path) -> None:
    """A store whose rows are all safe, as it lies on the disk while it is open."""
    with tempfile.TemporaryDirectory() as live:
        kv = open_rocks(live)
        await fill(kv, range(ROWS // 3))
        await kv.close()
        kv = open_rocks(live)
        await fill(kv, range(ROWS // 3, 2 * ROWS // 3))
        kv._db.flush()
        await fill(kv, range(2 * ROWS // 3, ROWS))
        shutil.copytree(live, folder)
        await kv.close()


async def fill(kv: RocksKv, numbers: range) -> None:
    for number in numbers:
        batch = Batch()
        batch.put(*row(number))
        await kv.commit(batch)


def damage(folder: Path, dice: random.Random) -> str:
    """Does something to one file; says what."""
    kind = dice.choice(KINDS)
    paths = [path for path in sorted(folder.iterdir()) if kind in path.name]
    paths = [path for path in paths if path.stat().st_size]
    if not paths:
        return f"no {kind}"
    path = dice.choice(paths)
    data = bytearray(path.read_bytes())
    at = dice.randrange(len(data.rstrip(b"\0")) or 1)  # a log has zeros behind its records
    what = dice.choice(("flip", "flip", "flip", "cut", "remove", "zeros"))
    if what == "remove":
        path.unlink()
        return f"{path.name} removed"
    if what == "flip":
        data[at] ^= 1 << dice.randrange(8)
    elif what == "cut":
        del data[at:]
    else:
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)
    return f"{path.name} {what} at {at}"


async def look(folder: Path) -> str:
    """What the store gives: "whole", or the error that tells of damage, or what is wrong."""
    try:
        kv = open_rocks(str(folder))
    except KvError as error:
        return f"noticed when opened: {error}"
    try:
        for number in range(ROWS):
            key, value = row(number)
            if kv.get(key) != value:
                return f"SILENT: {key!r}"
        if kv.scan(b"") != [row(number) for number in range(ROWS)]:
            return "SILENT: scan"
        return "whole"
    except KvError as error:
        return f"noticed when read: {error}"
    finally:
        await kv.close()


def trial(whole: Path, number: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "kv")
        shutil.copytree(whole, copy)
        done = damage(copy, random.Random(number))
        return f"{number}: {done}: {asyncio.run(look(copy))}"


def no_mark() -> None:
    rocks.read_mark = lambda folder: None


def manifest_not_looked_at() -> None:
    watermark._check_manifest = lambda folder, mark: None


# Faults of the guards: how each is planted, and the files whose damage shows it.
FAULTS = {"no_mark": (no_mark, (".log",)), "no_manifest": (manifest_not_looked_at, ("MANIFEST",))}


def main() -> None:
    global KINDS
    folder, seed, trials, fault = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    asyncio.run(make(folder))
    if fault:
        plant, KINDS = FAULTS[fault]
        plant()
    for number in range(seed, seed + trials):
        print(trial(folder, number), flush=True)


if __name__ == "__main__":
    main()

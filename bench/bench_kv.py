"""The metadata store on disk, beside the engine below it, a bare fdatasync, SQLite and LMDB.

What a row costs: 300 bytes under a key of 13. The disk of the temporary folder is what is measured
where a write waits for it; the peers write to the same one. LMDB is left out where it is not
installed; etcd is in bench_peers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from report import each_us, interleaved, record
from rocksdict import Options, Rdict, WriteOptions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spear._core.flushthread import FlushThread
from spear.kv.batch import Batch
from spear.kv.rocks import RocksKv, open_rocks
from tests.reference import flushthread as reference

VALUE = os.urandom(300)
KEYS = [b"exec/%08d" % at for at in range(10_000)]
ALONE = 150  # durable writes a round
WAITERS = 16
EACH = 100  # durable writes of a waiter a round


def batch_of(at: int) -> Batch:
    batch = Batch()
    batch.put(KEYS[at % len(KEYS)], VALUE)
    return batch


@pytest.fixture
def kv(tmp_path: Path, runner: asyncio.Runner) -> Iterator[RocksKv]:
    opened = open_rocks(str(tmp_path / "kv"))
    yield opened
    runner.run(opened.close())


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Rdict]:
    opened = Rdict(str(tmp_path / "raw"), Options(raw_mode=True))
    yield opened
    opened.close()


def counted(step: Callable[[int], object]) -> Callable[[], object]:
    """The step with the next number each time."""
    numbers = iter(range(1 << 60))
    return lambda: step(next(numbers))


def fdatasync_step(path: Path) -> Callable[[int], object]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def step(at: int) -> None:
        os.write(descriptor, VALUE)
        os.fdatasync(descriptor)

    return step


def sqlite_step(path: Path) -> Callable[[int], object]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table rows (key blob primary key, value blob) without rowid")
    return lambda at: connection.execute(
        "insert or replace into rows values (?, ?)", (KEYS[at % len(KEYS)], VALUE)
    )


def durable_put(raw: Rdict) -> Callable[[int], object]:
    synced = WriteOptions()
    synced.sync = True
    return lambda at: raw.put(KEYS[at % len(KEYS)], VALUE, synced)


async def one_by_one(kv: RocksKv, count: int) -> float:
    """Commits a second."""
    began = perf_counter()
    for at in range(count):
        await kv.commit(batch_of(at))
    return count / (perf_counter() - began)


async def at_once(kv: RocksKv, waiters: int, each: int) -> float:
    """Commits a second."""

    async def waiter(number: int) -> None:
        for at in range(each):
            await kv.commit(batch_of(number * each + at))

    began = perf_counter()
    await asyncio.gather(*(waiter(number) for number in range(waiters)))
    return waiters * each / (perf_counter() - began)


def test_durable_put_alone(
    benchmark: Any, tmp_path: Path, runner: asyncio.Runner, kv: RocksKv, raw: Rdict, pinned: None
) -> None:
    steps = {
        "rocksdict, sync put": durable_put(raw),
        "SQLite, synchronous=full": sqlite_step(tmp_path / "sqlite"),
        "write and fdatasync": fdatasync_step(tmp_path / "bare"),
    }
    contenders = {"spear": lambda: 1e6 / runner.run(one_by_one(kv, ALONE))}
    for name, step in steps.items():
        action = counted(step)
        contenders[name] = lambda action=action: each_us(action, ALONE)
    values = interleaved(benchmark, contenders, turns=3)
    record(
        "durable put alone, 300 B, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"rocksdict, sync put": ("<=", 1.1)},
        "awaited, with its checksum; flushed in a thread of its own, see ADR 0025",
    )


def test_durable_puts_at_once(benchmark: Any, runner: asyncio.Runner, kv: RocksKv) -> None:
    values = interleaved(
        benchmark,
        {
            "spear": lambda: runner.run(at_once(kv, WAITERS, EACH)) / 1e3,
            "one by one": lambda: runner.run(one_by_one(kv, ALONE)) / 1e3,
        },
    )
    record(
        f"durable puts, {WAITERS} at once, 300 B",
        values.pop("spear"),
        "k/s",
        values,
        {"one by one": (">=", 5.0)},
    )


async def handed_over(thread: Any, file: int, count: int) -> float:
    """Microseconds from the loop to the thread and back."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()

    def hear() -> None:
        assert thread.ended() == 0
        heard.set()

    loop.add_reader(thread.descriptor, hear)
    began = perf_counter()
    for _ in range(count):
        heard.clear()
        thread.begin([file])
        await heard.wait()
    loop.remove_reader(thread.descriptor)
    return (perf_counter() - began) / count * 1e6


def test_flush_handed_over(benchmark: Any, runner: asyncio.Runner, pinned: None) -> None:
    file = os.memfd_create("nothing to sync")
    threads = {"spear": FlushThread(), "reference (threading)": reference.FlushThread()}
    values = interleaved(
        benchmark,
        {
            name: lambda thread=thread: runner.run(handed_over(thread, file, 2000))
            for name, thread in threads.items()
        },
    )
    for thread in threads.values():
        thread.close()
    record(
        "flush handed over and heard of, nothing to sync, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {"reference (threading)": ("<=", 0.6)},
        "beside a loop with nothing to do; one that works has the GIL, for which the other waits",
    )


def test_put_that_is_not_synced(benchmark: Any, kv: RocksKv, raw: Rdict, pinned: None) -> None:
    ours = counted(lambda at: kv.write(batch_of(at)))
    theirs = counted(lambda at: raw.put(KEYS[at % len(KEYS)], VALUE))
    values = interleaved(
        benchmark,
        {
            "spear": lambda: each_us(ours, len(KEYS)),
            "rocksdict": lambda: each_us(theirs, len(KEYS)),
        },
    )
    record(
        "put without sync, 300 B, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {},
        "with its batch, checksum and sequence number; it survives the process",
    )


def test_get(
    benchmark: Any, tmp_path: Path, runner: asyncio.Runner, kv: RocksKv, raw: Rdict, pinned: None
) -> None:
    for at, key in enumerate(KEYS):
        kv.write(batch_of(at))
        raw[key] = VALUE
    actions = {
        "spear": counted(lambda at: kv.get(KEYS[at % len(KEYS)])),
        "rocksdict": counted(lambda at: raw.get(KEYS[at % len(KEYS)])),
    }
    note = ""
    with contextlib.ExitStack() as stack:
        try:
            get = stack.enter_context(lmdb_get(tmp_path / "lmdb"))
            actions["LMDB"] = counted(lambda at: get(KEYS[at % len(KEYS)]))
        except ImportError:
            note = "; LMDB is not installed: not compared"
        contenders: dict[str, Callable[[], float]] = {
            name: lambda action=action: each_us(action, len(KEYS))
            for name, action in actions.items()
        }
        values = interleaved(benchmark, contenders)
    record(
        "get, 300 B, one vCPU",
        values.pop("spear"),
        "us",
        values,
        {},
        f"from memory; ours checks the row's checksum{note}",
    )


@contextlib.contextmanager
def lmdb_get(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Reads that each have a transaction, as ours see every write before them."""
    lmdb = importlib.import_module("lmdb")
    environment = lmdb.open(str(path), map_size=64 << 20)
    with environment.begin(write=True) as transaction:
        for key in KEYS:
            transaction.put(key, VALUE)

    def get(key: bytes) -> object:
        with environment.begin() as transaction:
            return transaction.get(key)

    yield get
    environment.close()

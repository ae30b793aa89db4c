"""Logs outlive the process that writes them, and a disk that is full."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from log_runs import Bench, line, messages
from manual_clock import ManualClock

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
EXECUTIONS = ("e1", "e2", "e3")

# Writes for ever; tells each line on stdout that a follower of its own has been given.
WRITER = """
import asyncio, os, sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from pathlib import Path
from log_runs import Bench, line
from spear.clock import Clock

NAMES = ("e1", "e2", "e3")

async def tell(store, name, after_seq):
    async for batch in store.follow(name, "task", after_seq):
        os.write(1, "".join(f"{name} {one.seq} {one.message}\\n" for one in batch).encode())

async def main():
    store = Bench(Path(sys.argv[1]), Clock()).store(task_bytes_max=1, files=100_000)
    sinks = {name: store.sink(name, "task", resumed=True) for name in NAMES}
    told = {name: sum(map(len, store.read(name, "task"))) for name in NAMES}
    followers = [asyncio.ensure_future(tell(store, name, told[name])) for name in NAMES]
    seq = 0
    while True:
        for name, sink in sinks.items():
            sink.append([line(seq + n, f"{told[name] + seq + n} of {name}") for n in range(1, 6)])
        seq += 5
        await asyncio.sleep(0)

asyncio.run(main())
"""


def killed_writer(folder: Path, lines: int) -> list[str]:
    """What a writer told before it was killed, after about so many lines."""
    command = [sys.executable, "-c", WRITER, str(folder), str(ROOT), str(TESTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    assert all(told), "the writer ended by itself"
    return [text.rstrip("\n") for text in told if text.endswith("\n")]


def test_all_that_was_told_is_there_after_a_kill(tmp_path: Path, clock: ManualClock) -> None:
    rng = random.Random(4)
    told: list[str] = []
    for _ in range(5):
        told += killed_writer(tmp_path / "logs", rng.randrange(1, 2000))
        store = Bench(tmp_path / "logs", clock).store(task_bytes_max=1, files=100_000)
        found = {}
        for name in EXECUTIONS:
            lines = [one for batch in store.read(name, "task") for one in batch]
            assert [one.seq for one in lines] == list(range(1, len(lines) + 1))
            assert [one.message for one in lines] == [f"{one.seq} of {name}" for one in lines]
            found[name] = len(lines)
        for text in told:
            name, seq, _ = text.split(" ", 2)
            assert int(seq) <= found[name]
    assert len(told) == len(set(told))


FULL = """
import os, resource, sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from pathlib import Path
from log_runs import Bench, line, messages
from spear.clock import Clock

bench = Bench(Path(sys.argv[1]), Clock())
store = bench.store()
sink = store.sink("e1", "task")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for seq in range(1, 301):
    sink.append([line(seq, "x" * 100)])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.append([line(301, "there is room")])
sink.finish()
found = messages(store.read("e1", "task"))
assert found[-1] == "there is room", found[-1]
assert found[-2] == f"{sink.lost} lines were lost: the log could not be written", found[-2]
assert found[:-2] == ["x" * 100] * (300 - sink.lost), len(found)
assert 0 < sink.lost < 300
assert bench.system.text.count("task log cannot be written") == 1
assert "File too large" in bench.system.text
"""


def test_a_file_that_may_not_grow_loses_lines_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "logs"), str(ROOT), str(TESTS)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this machine mounts nothing")
    return folder


async def test_a_full_disk_holds_up_nobody_and_is_over_when_it_is(
    small_disk: Path, clock: ManualClock
) -> None:
    try:
        bench = Bench(small_disk / "logs", clock)
        store = bench.store()
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(150_000))
        sink, other = store.sink("e1", "one"), store.sink("e2", "two")
        for seq in range(1, 1001):
            sink.append([line(seq, "x" * 100)])
            other.append([line(seq, "x" * 100)])
        assert sink.lost > 0
        assert other.lost > 0
        ballast.unlink()
        clock.advance(10**9)
        sink.append([line(1001, "room")])
        sink.finish()
        other.finish()
        for name, task, ended in (("e1", "one", sink), ("e2", "two", other)):
            found = messages(store.read(name, task))
            marks = [text for text in found if "could not be written" in text]
            assert sum(int(text.split()[0]) for text in marks) == ended.lost
            assert len(found) - len(marks) + ended.lost == (1001 if ended is sink else 1000)
        assert await store.sweep() == 0
        store.close()
        again = bench.store()
        assert len(messages(again.read("e1", "one"))) == sink.lines
        again.close()
        await asyncio.sleep(0)
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)

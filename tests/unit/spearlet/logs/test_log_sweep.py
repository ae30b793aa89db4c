"""The limits of all logs together, and their age."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from log_runs import TASK, Bench, line, lines, messages
from manual_clock import ManualClock

from spear.spearlet.logs.store import LogStore
from spear.telemetry import rotating

HOUR = 3600 * 10**9


@pytest.fixture
def bench(tmp_path: Path, clock: ManualClock) -> Bench:
    return Bench(tmp_path / "logs", clock)


def fill(store: LogStore, task: str, count: int) -> None:
    sink = store.sink(f"{task}-e", task)
    for seq in range(1, count + 1):
        sink.append([line(seq)])
    sink.finish()


def size(bench: Bench) -> int:
    return sum(path.stat().st_size for path in bench.folder.rglob("*.*"))


async def test_old_logs_go_also_those_of_tasks_that_nobody_uses(
    bench: Bench, clock: ManualClock
) -> None:
    store = bench.store(age_ns_max=4 * HOUR)
    for task in ("one", "two"):
        fill(store, task, 3)
    store.close()
    store = bench.store(age_ns_max=4 * HOUR)
    fill(store, "three", 3)
    assert await store.sweep() == 0
    clock.advance(3 * HOUR)
    fill(store, "one", 3)
    clock.advance(2 * HOUR + 1)
    assert await store.sweep() == 3
    assert sorted(path.name for path in bench.folder.iterdir()) == ["one"]
    assert len(messages(store.read("one-e", "one"))) == 3
    assert messages(store.read("three-e", "three")) == []
    fill(store, "three", 2)
    assert len(messages(store.read("three-e", "three"))) == 2


async def test_all_together_stay_within_the_limit_and_the_oldest_go_first(
    bench: Bench, clock: ManualClock
) -> None:
    store = bench.store(task_bytes_max=1, bytes_max=35_000)
    for task in ("old", "middle", "young"):
        fill(store, task, 150)
        clock.advance(HOUR)
    assert size(bench) > 60_000
    assert await store.sweep() > 3
    assert size(bench) <= 35_000
    assert len(bench.files("old")) == 1
    assert len(bench.files("young")) > len(bench.files("middle"))
    found = [one.seq for batch in store.read("young-e", "young") for one in batch]
    assert found == list(range(found[0], 151))


async def test_files_that_are_written_go_last_and_their_execution_goes_on(bench: Bench) -> None:
    store = bench.store(bytes_max=1)
    sink = store.sink("e1", TASK)
    sink.append(lines(1, 3))
    follower = store.follow("e1", TASK, after_seq=1)
    assert len(await anext(follower)) == 2
    assert await store.sweep() == 1
    assert bench.files() == []
    sink.append(lines(4, 5))
    assert [one.seq for one in await anext(follower)] == [4, 5]
    await store.sweep()
    sink.append([line(6)])
    sink.finish()
    assert [one.message async for batch in follower for one in batch] == ["message 6"]


async def test_a_folder_that_cannot_be_swept_is_told_and_the_others_are(
    bench: Bench, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store(age_ns_max=4 * HOUR)
    fill(store, "bad", 1)
    fill(store, "good", 1)
    store.close()
    clock.advance(6 * HOUR)
    real = rotating.os.rename

    def rename(old: str, new: str) -> None:
        if "/bad/" in old and old.endswith(".jsonl"):
            raise OSError(errno.EACCES, "Permission denied")
        real(old, new)

    monkeypatch.setattr(rotating.os, "rename", rename)
    assert await bench.store(age_ns_max=4 * HOUR).sweep() == 1
    assert "task log cannot be swept" in bench.system.text
    assert [path.name for path in bench.folder.iterdir()] == ["bad"]


async def test_no_directory_is_no_error(bench: Bench) -> None:
    assert await bench.store().sweep() == 0

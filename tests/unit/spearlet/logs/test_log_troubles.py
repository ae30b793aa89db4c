"""A log that cannot be written or read: told, counted, and in nobody's way."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from log_runs import TASK, Bench, line, lines, messages
from manual_clock import ManualClock

from spear.errors import LogUnavailable
from spear.telemetry import rotating

SECOND = 10**9


@pytest.fixture
def bench(tmp_path: Path, clock: ManualClock) -> Bench:
    return Bench(tmp_path / "logs", clock)


def full(fd: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_lines_for_a_full_disk_are_counted_and_the_next_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append(lines(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(rotating.os, "write", full)
        sink.append(lines(3, 4))
        sink.append([line(5)])
        assert (sink.lines, sink.lost, store.stats()["lost"]) == (2, 3, 3)
        assert messages(store.read("e1", TASK)) == ["message 1", "message 2"]
    sink.append([line(6)])
    sink.finish()
    assert messages(store.read("e1", TASK)) == [
        "message 1", "message 2", "3 lines were lost: the log could not be written", "message 6",
    ]  # fmt: skip
    assert (sink.lines, sink.lost) == (4, 3)
    assert bench.system.text.count("task log cannot be written") == 1
    assert bench.system.text.count('"task log is written again"') == 1
    assert '"lost":3' in bench.system.text


async def test_the_end_tells_what_was_lost_last_and_followers_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store()
    sink, other = store.sink("e1", TASK), store.sink("e2", TASK)
    with monkeypatch.context() as patch:
        patch.setattr(rotating.os, "write", full)
        sink.append([line(1)])
        other.append([line(1)])
        other.finish()
    sink.finish()
    assert messages(store.read("e1", TASK)) == ["1 line was lost: the log could not be written"]
    assert [batch async for batch in store.follow("e2", TASK)] == []


def test_a_directory_that_cannot_be_written_is_tried_once_a_second(
    bench: Bench, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.folder.write_text("in the way")
    store = bench.store()
    sink = store.sink("e1", TASK)
    asked: list[str] = []
    real = os.makedirs

    def makedirs(path: str, *rest: object, **named: object) -> None:
        asked.append(path)
        real(path, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rotating.os, "makedirs", makedirs)
    for seq in range(1, 101):
        sink.append([line(seq)])
    assert (sink.lost, len(set(asked))) == (100, len(asked[:2]))
    bench.folder.unlink()
    sink.append([line(101)])
    assert sink.lost == 101
    clock.advance(SECOND)
    sink.append([line(102)])
    assert messages(store.read("e1", TASK)) == [
        "101 lines were lost: the log could not be written", "message 102",
    ]  # fmt: skip


def test_a_failed_rotation_loses_lines_not_the_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store(task_bytes_max=1)
    sink = store.sink("e1", TASK)
    seq = 0
    with monkeypatch.context() as patch:

        def refuse(old: str, new: str) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        patch.setattr(rotating.os, "rename", refuse)
        while not sink.lost:
            seq += 1
            sink.append([line(seq)])
    for after in range(seq + 1, seq + 41):
        sink.append([line(after)])
    found = [one.seq for batch in store.read("e1", TASK) for one in batch]
    assert found == list(range(1, sink.lines + 1))
    assert sink.lines == seq - 1 + 1 + 40


@pytest.mark.parametrize("again", [False, True], ids=["same process", "new process"])
def test_damaged_lines_are_counted_and_a_line_stands_for_them(bench: Bench, again: bool) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append(lines(1, 6))
    sink.finish()
    (path,) = bench.files()
    rows = path.read_bytes().split(b"\n")
    rows[2] = rows[2][:-1] + b"x"  # line 2
    rows[4] = b"\0" * len(rows[4])  # line 4, and its head
    path.write_bytes(b"\n".join(rows))
    if again:
        store = bench.store()
    found = [one for batch in store.read("e1", TASK) for one in batch]
    assert [one.seq for one in found] == [1, 2, 3, 4, 5, 6]
    assert [one.seq for one in found if one.stream == "system"] == [2, 4]
    assert found[1].message.startswith("line 2 is gone")
    assert store.stats()["damaged"] == 1
    assert "task log has damaged lines" in bench.system.text


def test_a_damaged_end_of_what_is_known_has_its_mark_too(bench: Bench) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append(lines(1, 3))
    (path,) = bench.files()
    data = path.read_bytes()
    path.write_bytes(data[:-5] + b"\0\0\0\0\n")
    found = [one for batch in store.read("e1", TASK) for one in batch]
    assert [(one.seq, one.stream) for one in found] == [(1, "log"), (2, "log"), (3, "system")]


def test_blocks_of_zeros_hide_only_themselves(bench: Bench) -> None:
    store = bench.store(task_bytes_max=64 << 20)
    sink = store.sink("e1", TASK)
    sink.append([line(1)])
    sink.finish()
    (path,) = bench.files()
    path.write_bytes(path.read_bytes() + bytes(3 << 20) + b"\n")
    again = bench.store(task_bytes_max=64 << 20)
    sink = again.sink("e1", TASK, resumed=True)
    sink.append([line(1, "behind")])
    sink.finish()
    assert messages(bench.store(task_bytes_max=64 << 20).read("e1", TASK)) == [
        "message 1", "behind",
    ]  # fmt: skip


async def test_a_log_that_cannot_be_read_is_an_error_that_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append([line(1)])

    def refuse(*given: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(rotating.os, "pread", refuse)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            list(store.read("e1", TASK))
        sink.finish()
        store.close()
        with pytest.raises(LogUnavailable, match="cannot be read"):
            async for _ in store.follow("e1", TASK):
                await asyncio.sleep(0)
        with pytest.raises(LogUnavailable, match="cannot be removed"):
            store.remove("e1", TASK)
    assert messages(store.read("e1", TASK)) == ["message 1"]


def test_an_attempt_whose_history_cannot_be_read_numbers_no_line_twice(
    bench: Bench, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store()
    store.sink("e1", TASK).append(lines(1, 3))
    store.close()
    again = bench.store()

    def refuse(*given: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(rotating.os, "pread", refuse)
        sink = again.sink("e1", TASK, resumed=True)
        sink.append(lines(1, 2))
        assert sink.lost == 2
    clock.advance(SECOND)
    sink.append([line(3)])
    assert messages(again.read("e1", TASK)) == [
        "message 1", "message 2", "message 3",
        "2 lines were lost: the log could not be written", "message 3",
    ]  # fmt: skip


def test_a_file_that_could_not_be_indexed_is_before_it_is_written(
    bench: Bench, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = bench.store().sink("e1", TASK)
    sink.append([line(1)])
    store = bench.store()  # as after a kill: no index was saved
    other = store.sink("e2", TASK)

    def refuse(*given: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(rotating.RotatingFile, "read", refuse)
        other.append([line(1)])
    assert other.lost == 1
    clock.advance(SECOND)
    other.append([line(2)])
    assert messages(store.read("e1", TASK)) == ["message 1"]

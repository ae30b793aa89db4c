"""Logs of executions: sequence, history and tail, attempts, removal."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from log_runs import TASK, Bench, line, lines, messages
from manual_clock import ManualClock

from spear.errors import InUse, InvalidArgument
from spear.records.execution import LogLine
from spear.spearlet.logs import store as store_module
from spear.spearlet.logs.store import LogStore


@pytest.fixture
def bench(tmp_path: Path, clock: ManualClock) -> Bench:
    return Bench(tmp_path / "logs", clock)


def seqs(store: LogStore, execution_id: str = "e1", after_seq: int = 0) -> list[int]:
    return [line.seq for batch in store.read(execution_id, TASK, after_seq) for line in batch]


async def collect(follower: AsyncIterator[list[LogLine]]) -> list[str]:
    return [line.message async for batch in follower for line in batch]


async def turns() -> None:
    """Lets everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_line_has_all_its_fields_in_the_file_and_in_the_record(bench: Bench) -> None:
    store = bench.store()
    store.sink("e1", TASK, "i1").append([line(1, "hello", level=3, stream="stderr")])
    header, stored = (bench.files()[0]).read_text().splitlines()
    assert json.loads(header) == {"began_ns": bench.clock.now_ns()}
    assert json.loads(stored) == {
        "execution_id": "e1", "seq": 1, "time_ms": 1001, "level": "warn", "stream": "stderr",
        "task": TASK, "instance_id": "i1", "node": "n1", "message": "hello",
    }  # fmt: skip
    assert list(store.read("e1", TASK)) == [
        [LogLine(execution_id="e1", seq=1, time_ms=1001, level="warn", stream="stderr",
                 message="hello", task=TASK, instance_id="i1")]
    ]  # fmt: skip


def test_executions_of_one_task_keep_their_own_lines_and_numbers(bench: Bench) -> None:
    store = bench.store()
    sinks = {name: store.sink(name, TASK) for name in ("e1", "e2", "e12")}
    for seq in range(1, 6):
        for name, sink in sinks.items():
            sink.append([line(seq, f"{name} {seq}")])
    for name in sinks:
        assert messages(store.read(name, TASK)) == [f"{name} {n}" for n in range(1, 6)]
        assert seqs(store, name, after_seq=3) == [4, 5]
    sinks["e1"].finish()
    assert messages(store.read("e1", TASK)) == [f"e1 {n}" for n in range(1, 6)]
    assert messages(store.read("e3", TASK)) == []
    assert messages(store.read("e1", "another")) == []


def test_the_next_attempt_goes_on_with_the_sequence(bench: Bench) -> None:
    store = bench.store()
    first = store.sink("e1", TASK, "i1")
    first.append(lines(1, 2))
    first.system("attempt 1 failed", "warn")
    second = store.sink("e1", TASK, "i2")
    second.append(lines(1, 2))
    second.finish()
    found = [found for batch in store.read("e1", TASK) for found in batch]
    assert [(one.seq, one.stream, one.instance_id) for one in found] == [
        (1, "log", "i1"), (2, "log", "i1"), (3, "system", "i1"), (4, "log", "i2"),
        (5, "log", "i2"),
    ]  # fmt: skip


def test_what_the_runtime_lost_is_told_where_it_is_missing(bench: Bench) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append(lines(3, 4))
    sink.append([line(5), line(9)])
    sink.append([line(10)])
    assert messages(store.read("e1", TASK)) == [
        "2 lines were lost: they came faster than they were read", "message 3", "message 4",
        "message 5", "3 lines were lost: they came faster than they were read", "message 9",
        "message 10",
    ]  # fmt: skip
    assert seqs(store) == list(range(1, 8))
    assert sink.lines == 7


def test_secrets_are_not_in_the_file(bench: Bench) -> None:
    bench.redactor.learn("TOKEN", "s3cret-value")
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append([line(1, "harmless"), line(2, "a s3cret-value")])
    sink.system("failed with s3cret-value")
    assert b"s3cret" not in bench.files()[0].read_bytes()
    assert messages(store.read("e1", TASK))[1:] == [
        "a [redacted:TOKEN]", "failed with [redacted:TOKEN]",
    ]  # fmt: skip


@pytest.mark.parametrize("shown", range(1, 12))
def test_a_secret_across_the_cut_of_a_long_line_is_not_in_the_file(
    bench: Bench, shown: int
) -> None:
    """The runtime cuts lines of a stream at 16 KiB; other streams' lines may come between."""
    bench.redactor.learn("TOKEN", "s3cret-value")
    text = "." * ((1 << 14) - shown) + "s3cret-value" + "," * (1 << 14)
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append([line(1, text[: 1 << 14], stream="stdout"), line(2, "other", stream="stderr")])
    sink.append([line(3, text[1 << 14 : 2 << 14], stream="stdout")])
    sink.append([line(4, text[2 << 14 :], stream="stdout")])
    assert b"s3cr" not in bench.files()[0].read_bytes()
    found = messages(store.read("e1", TASK))
    assert len(found) == 4
    assert found[0] + found[2] + found[3] == (
        "." * ((1 << 14) - shown) + "[redacted:TOKEN]" + "," * (1 << 14)
    )


def test_a_chain_of_secrets_in_a_long_line_is_written_piece_by_piece(bench: Bench) -> None:
    """Each occurrence begins with the last character of the one before it."""
    bench.redactor.learn("TOKEN", "kabcdefgk")
    store = bench.store()
    sink = store.sink("e1", TASK)
    for seq in range(1, 9):
        sink.append([line(seq, "kabcdefg" * (1 << 11), stream="stdout")])
        assert sink.lines == seq
        assert all(len(one.message) < 2 * 9 for one in sink._begun.values())
    sink.append([line(9, "k.", stream="stdout")])
    assert b"abc" not in bench.files()[0].read_bytes()
    shown = "[redacted:TOKEN]"
    assert messages(store.read("e1", TASK)) == [shown] * 8 + [shown + "."]


def test_what_looked_like_the_beginning_of_a_secret_is_kept_at_the_end(bench: Bench) -> None:
    bench.redactor.learn("TOKEN", "s3cret-value")
    store = bench.store()
    for sink in (store.sink("e1", TASK), store.sink("e2", TASK)):
        sink.append([line(1, "." * ((1 << 14) - 4) + "s3cr", stream="stdout")])
        sink.finish()
    found = [one for batch in store.read("e2", TASK) for one in batch]
    assert [(one.seq, one.stream, one.message[-4:]) for one in found] == [
        (1, "stdout", "...."), (2, "stdout", "s3cr"),
    ]  # fmt: skip


def test_what_looked_like_the_beginning_of_a_secret_is_not_in_a_line_behind_lost_ones(
    bench: Bench,
) -> None:
    bench.redactor.learn("TOKEN", "s3cret-value")
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append([line(1, "." * ((1 << 14) - 4) + "s3cr", stream="stdout")])
    sink.append([line(2, "other", stream="stderr"), line(4, "et-value", stream="stdout")])
    sink.finish()
    found = [one for batch in store.read("e1", TASK) for one in batch]
    assert [(one.seq, one.stream, one.message[-8:]) for one in found] == [
        (1, "stdout", "........"), (2, "stderr", "other"), (3, "stdout", "s3cr"),
        (4, "system", "ere read"), (5, "stdout", "et-value"),
    ]  # fmt: skip


def test_a_secret_where_an_overlong_message_is_cut_is_not_shown_in_part(bench: Bench) -> None:
    bench.redactor.learn("TOKEN", "s3cret-value")
    store = bench.store()
    store.sink("e1", TASK).append([line(1, "." * 65_530 + "s3cret-value" + "." * 9)])
    assert b"s3c" not in bench.files()[0].read_bytes()


def test_an_odd_line_is_kept_within_bounds(bench: Bench) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append([line(1, "x" * 100_000), line(2, "\ud800\x1b[0m\n"), line(3, "a", level=77)])
    found = [found for batch in store.read("e1", TASK) for found in batch]
    assert len(found[0].message) < 66_000
    assert found[0].message.endswith("(cut, 100000 characters)")
    assert found[1].message == "\\ud800\x1b[0m\n"
    assert found[2].level == "error"
    sink.append([line(n, "\x1b" * 60_000) for n in range(4, 24)])  # 7 MiB in JSON
    assert len(seqs(store)) == 23


def test_an_execution_without_lines_touches_no_disk(bench: Bench) -> None:
    store = bench.store()
    store.sink("e1", TASK).finish()
    assert messages(store.read("e1", TASK)) == []
    assert not bench.folder.exists()


@pytest.mark.parametrize("wrong", ["", "a b", 'a"', "x" * 129, "ü", "a\n"])
def test_an_id_that_could_pretend_is_refused(bench: Bench, wrong: str) -> None:
    with pytest.raises(InvalidArgument, match="id"):
        bench.store().sink(wrong, TASK)


def test_history_over_many_files_is_found_by_its_index(bench: Bench) -> None:
    store = bench.store(task_bytes_max=64 << 10)
    early = store.sink("early", TASK)
    early.append(lines(1, 3))
    early.finish()
    for number in range(8):
        sink = store.sink(f"e{number}", TASK)
        for seq in range(1, 30):
            sink.append([line(seq)])
        sink.finish()
    assert len(bench.files()) > 3
    assert len(bench.files(pattern="*.index")) == len(bench.files()) - 1
    for number in range(8):
        assert seqs(store, f"e{number}") == list(range(1, 30))
    assert seqs(store, "early") == [1, 2, 3]


def test_old_files_go_and_a_line_stands_for_what_went_with_them(bench: Bench) -> None:
    store = bench.store(task_bytes_max=1)  # the least: eight files of 4 KiB
    sink = store.sink("e1", TASK)
    for seq in range(1, 1001):
        sink.append([line(seq)])
    assert len(bench.files()) == 8
    assert len(sink._log.extents) == 8
    found = [found for batch in store.read("e1", TASK) for found in batch]
    first = found[0].seq
    assert found[0].message == (
        f"lines 1 to {first} are gone: removed for logs.task_size, logs.size or logs.retention, "
        "not in a backup, or damaged"
    )
    assert (found[0].stream, found[0].level) == ("system", "warn")
    assert [one.seq for one in found] == list(range(first, 1001))
    assert found[1].message == f"message {first + 1}"
    assert seqs(store, after_seq=990) == list(range(991, 1001))


def test_a_new_process_finds_what_the_last_one_wrote(bench: Bench) -> None:
    store = bench.store(task_bytes_max=32 << 10)
    for number in range(5):
        store.sink(f"e{number}", TASK).append(lines(1, 25))
    store.close()
    again = bench.store(task_bytes_max=32 << 10)
    for number in range(5):
        assert seqs(again, f"e{number}") == list(range(1, 26))


@pytest.mark.parametrize("how", ["closed", "killed", "without indexes", "torn"])
def test_an_attempt_in_a_new_process_goes_on_behind_the_last_line(bench: Bench, how: str) -> None:
    store = bench.store(task_bytes_max=32 << 10)
    store.sink("e1", TASK).append(lines(1, 100))
    store.sink("e2", TASK).append(lines(1, 3))
    if how == "closed":
        store.close()
    if how == "without indexes":
        for path in bench.files(pattern="*.index"):
            path.unlink()
    if how == "torn":
        with bench.files()[-1].open("ab") as file:
            file.write(b'{"execution_id":"e1","seq":101,"ti')
    again = bench.store(task_bytes_max=32 << 10)
    sink = again.sink("e1", TASK, resumed=True)
    assert seqs(again) == list(range(1, 101))
    sink.append(lines(1, 2))
    assert seqs(again) == list(range(1, 103))
    assert again.stats()["lines"] == 2
    sink.finish()
    assert seqs(again, after_seq=99) == [100, 101, 102]


def test_a_removed_log_is_not_found_and_its_id_may_be_used_again(bench: Bench) -> None:
    store = bench.store()
    sink, other = store.sink("e1", TASK), store.sink("e2", TASK)
    sink.append(lines(1, 3))
    other.append(lines(1, 3))
    with pytest.raises(InUse):
        store.remove("e1", TASK)
    sink.finish()
    store.remove("e1", TASK)
    store.remove("e1", TASK)
    store.remove("never", TASK)
    assert seqs(store) == []
    assert seqs(bench.store()) == []
    assert seqs(store, "e2") == [1, 2, 3]
    again = store.sink("e1", TASK)
    again.append([line(1, "new")])
    again.finish()
    assert messages(store.read("e1", TASK)) == messages(bench.store().read("e1", TASK)) == ["new"]


def test_a_tombstone_of_another_with_the_same_hash_takes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("index", "sink", "tasklog"):
        monkeypatch.setattr(f"spear.spearlet.logs.{module}.key_of", lambda head: 7)
    store = bench.store()
    for name in ("e1", "e2"):
        sink = store.sink(name, TASK)
        sink.append([line(1, name)])
        sink.finish()
    store.remove("e2", TASK)
    assert messages(store.read("e1", TASK)) == ["e1"]
    assert messages(store.read("e2", TASK)) == []


def test_few_files_are_open_whatever_the_number_of_tasks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "OPEN_MAX", 3)
    store = bench.store()
    sinks = [store.sink(f"e{n}", f"task{n}") for n in range(10)]
    for seq in range(1, 4):
        for sink in sinks:
            sink.append([line(seq)])
    assert store.stats()["files_open"] == 3
    held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert sum(name.startswith(str(bench.folder)) for name in held) == 3
    for number in range(10):
        assert len(messages(store.read(f"e{number}", f"task{number}"))) == 3


async def test_a_follower_has_history_then_tail_and_ends_with_the_log(bench: Bench) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    sink.append(lines(1, 3))
    seen: list[int] = []

    async def follow() -> None:
        async for batch in store.follow("e1", TASK, after_seq=1):
            seen.extend(line.seq for line in batch)

    following = asyncio.ensure_future(follow())
    await turns()
    assert seen == [2, 3]
    sink.append(lines(4, 5))
    await turns()
    assert seen == [2, 3, 4, 5]
    sink.append([line(6)])
    sink.finish()
    await following
    assert seen == [2, 3, 4, 5, 6]


async def test_a_follower_may_wait_for_the_first_line(bench: Bench) -> None:
    store = bench.store()
    store.sink("e1", TASK)  # accepted, and not yet run
    following = asyncio.ensure_future(collect(store.follow("e1", TASK)))
    await turns()
    sink = store.sink("e1", TASK, "i1")
    sink.append([line(1)])
    sink.finish()
    assert await following == ["message 1"]


async def test_a_slow_follower_is_behind_by_files_not_by_memory(bench: Bench) -> None:
    store = bench.store(task_bytes_max=256 << 10)
    sink = store.sink("e1", TASK)
    sink.append([line(1)])
    follower = store.follow("e1", TASK)
    found = await anext(follower)
    for seq in range(2, 800):
        sink.append([line(seq)])
    sink.finish()
    async for batch in follower:
        assert sum(len(one.message) for one in batch) < 1 << 16
        found += batch
    assert [one.seq for one in found] == list(range(1, 800))
    assert len(bench.files()) > 3


async def test_a_follower_that_is_overtaken_by_the_limits_is_told(bench: Bench) -> None:
    store = bench.store(task_bytes_max=1)
    sink = store.sink("e1", TASK)
    sink.append([line(1)])
    follower = store.follow("e1", TASK)
    found = await anext(follower)
    for seq in range(2, 1001):
        sink.append([line(seq)])
    sink.finish()
    found += [one async for batch in follower for one in batch]
    assert found[1].message.startswith("lines 2 to ")
    assert [one.seq for one in found[1:]] == list(range(found[1].seq, 1001))


async def test_followers_that_leave_are_not_kept(bench: Bench) -> None:
    store = bench.store()
    sink = store.sink("e1", TASK)
    for _ in range(10):
        following = asyncio.ensure_future(collect(store.follow("e1", TASK)))
        await turns()
        following.cancel()
        await turns()
        assert following.cancelled()
    assert not sink._log._waiting


async def test_closing_ends_followers_and_a_finished_log_ends_at_once(bench: Bench) -> None:
    store = bench.store()
    store.sink("e1", TASK).append(lines(1, 2))
    following = asyncio.ensure_future(collect(store.follow("e1", TASK)))
    await turns()
    store.close()
    assert await following == ["message 1", "message 2"]
    assert await collect(store.follow("e1", TASK, after_seq=1)) == ["message 2"]
    assert store.stats() | {"files_open": 0} == {
        "lines": 2, "lost": 0, "damaged": 0, "removed_files": 0, "open": 0, "files_open": 0,
    }  # fmt: skip


async def test_who_follows_hears_at_once_that_what_there_was_is_gone(bench: Bench) -> None:
    store = bench.store(task_bytes_max=1)
    store.sink("quiet", TASK).append(lines(1, 2))
    noisy = store.sink("noisy", TASK)
    for seq in range(1, 1001):
        noisy.append([line(seq)])
    following = store.follow("quiet", TASK)
    (found,) = await asyncio.wait_for(anext(following), 20)
    assert (found.seq, found.stream) == (2, "system")
    assert found.message.startswith("lines 1 to 2 are gone")
    await following.aclose()  # type: ignore[attr-defined]

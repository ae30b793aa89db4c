"""A guest whose log waits for its reader: no line is lost, however fast it logs and slow is read.

Rule: the reader takes a few lines at a time, when the test says; nothing is measured by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import wasmtime
from guest_runs import HANG_S, MS, executor, guest
from text_guests import MEMORY, NATIVE, text_engine, text_guest, times

from spear._core.engine import Module
from spear._core.executor import Executor
from spear._core.run import Run
from spear.errors import InvalidArgument

LINE = "(drop (call $log (i32.const 2) (i32.const 16) (i32.const 6)))"  # "shared"
VECTOR = 400  # of two pieces, see text_guests
KEPT = 16
ENTRY_BYTES = 32  # counted beside a line's text


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor(workers=2) as made:
        yield made


def flood(node: Executor, lines: int, **options: object) -> Run:
    return node.start(
        guest("log_flood"), args=("log_flood", str(lines)),
        **{"log_waits": True, "log_lines_max": KEPT, **options},
    )  # fmt: skip


def all_of(run: Run, at_once: int = 7) -> list[int]:
    """The numbers of its lines, read until it has ended and nothing is left."""
    found: list[int] = []
    while True:
        ended = run.done
        lines = run.read_logs(at_once)
        found += [line.seq for line in lines]
        if ended and not lines:
            return found
        if not lines:
            run.wait(HANG_S, events=True)


def until_parked(node: Executor) -> None:
    """Its only guest, whose log is full."""
    while node.stats()["queued"] or node.stats()["busy_workers"]:
        time.sleep(0.001)


def test_every_line_comes_to_who_reads_slowly(node: Executor):
    run = flood(node, 20_000)
    assert all_of(run) == list(range(1, 20_001))
    assert (run.outcome.cause, run.outcome.log_lost) == ("exit", 0)


def test_it_gets_no_further_than_is_read(node: Executor):
    run = flood(node, 20_000)
    run.wait(HANG_S, events=True)
    until_parked(node)
    assert not run.done
    assert len(run.read_logs()) < 1000  # it stands still, not long after there was no room
    run.cancel()


def test_one_that_logs_in_its_first_slice_waits_as_well(node: Executor):
    run = flood(node, 20_000, inline=True)
    assert not run.done
    assert all_of(run) == list(range(1, 20_001))


def newlines(times: int) -> Module:
    """A guest that writes 65,536 of them in one call, so often, and does not wait between."""
    fill = "(memory.fill (i32.const 4096) (i32.const 10) (i32.const 65536))"
    one = "(i32.store (i32.const 404) (i32.const 65536))"
    write = f"(drop (call $write (i32.const 2) (i32.const {VECTOR}) (i32.const 1) (i32.const 12)))"
    return text_guest(f"{fill} {one} {write * times}")


def test_lines_that_come_in_one_call_are_all_kept(node: Executor):
    """It cannot wait within the call."""
    run = node.start(newlines(1), log_waits=True, log_lines_max=KEPT)
    assert all_of(run, 1000) == list(range(1, 65_537))
    assert run.outcome.log_lost == 0


def test_lines_without_text_take_no_more_room_than_the_limit_says(node: Executor):
    run = node.start(
        newlines(10), log_waits=True, log_lines_max=KEPT, log_bytes_max=100_000 * ENTRY_BYTES
    )
    assert all_of(run, 1000) == list(range(1, 100_002))  # and the mark
    assert run.outcome.log_truncated


def test_code_without_a_check_between_its_lines_loses_none(node: Executor):
    run = node.start(text_guest(LINE * 500), log_waits=True, log_lines_max=KEPT)
    assert all_of(run) == list(range(1, 501))


def test_a_deadline_ends_one_that_waits(node: Executor):
    run = flood(node, 20_000, timeout_ns=30 * MS)
    assert run.wait(HANG_S)
    assert run.outcome.cause == "deadline"
    numbers = all_of(run)
    assert numbers == list(range(1, len(numbers) + 1))


def test_one_that_waits_is_cancelled_at_once(node: Executor):
    run = flood(node, 20_000)
    run.wait(HANG_S, events=True)
    until_parked(node)
    assert not run.done
    assert run.cancel("enough")
    assert run.wait(HANG_S)
    assert run.outcome.cause == "cancelled"
    assert run.read_logs()[-1].message == "Terminate execution: enough"


def test_the_limit_in_bytes_holds_and_is_marked(node: Executor):
    run = flood(node, 20_000, log_bytes_max=100 * (13 + ENTRY_BYTES))
    lines = all_of(run)
    assert lines == list(range(1, 102))  # 100 of 13 bytes, and the mark
    assert (run.outcome.log_truncated, run.outcome.log_lost) == (True, 0)


def test_without_it_the_oldest_go(node: Executor):
    run = flood(node, 20_000, log_waits=False)
    assert run.wait(HANG_S)
    assert all_of(run) == list(range(20_001 - KEPT, 20_001))


async def test_who_follows_on_a_loop_gets_every_line(node: Executor):
    run, found = flood(node, 5_000), []
    async with asyncio.timeout(HANG_S):
        while not await run.changed():
            found += [line.seq for line in run.read_logs(10)]
    assert found + all_of(run) == list(range(1, 5_001))


def test_a_call_of_a_warm_instance_waits(node: Executor):
    text = f"""(module {NATIVE} {MEMORY}
      (func (export "f") (local $left i32) {times(3000, LINE)}))"""
    module = text_engine(False).load(bytes(wasmtime.wat2wasm(text)))
    instance = node.instantiate(module, log_waits=True)
    run = instance.function("f").start()
    assert all_of(run) == list(range(1, 3001))


def test_a_log_that_waits_keeps_at_least_a_line(node: Executor):
    with pytest.raises(InvalidArgument, match="log_lines_max"):
        flood(node, 1, log_lines_max=0)


def test_a_deterministic_world_waits_for_no_reader():
    with executor(workers=1, seed=1) as made, pytest.raises(InvalidArgument, match="reader"):
        made.start(guest("hello"), log_waits=True)

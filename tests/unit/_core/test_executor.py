"""Runs from start to outcome: each guest does what its source says, and every end is told once."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import uvloop
import wasm_asm as asm
from guest_runs import HANG_S, MS, assembled, ended, executor, guest, logged, python

from spear._core.executor import Executor, Outcome, Run
from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit, NodeBusy, NodeClosed

SLEEP_FOREVER = ("sleeper", "-1")
LOOPS_SILENTLY = asm.module(body=asm.FOREVER)
TIGHT = 150 * MS


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


def finish(node: Executor, name: str, *args: str, **more: object) -> tuple[Run, Outcome]:
    run = node.start(guest(name), args=(name, *args), **more)
    return run, ended(run)


def parked(node: Executor, **more: object) -> Run:
    """A guest that sleeps for ever; it logs just before."""
    run = node.start(guest("sleeper"), args=SLEEP_FOREVER, **more)
    while not run.read_logs():
        assert not run.wait(HANG_S, events=True)
    return run


def looping(node: Executor, **more: object) -> Run:
    run = node.start(guest("loop"), args=("loop",), **more)
    while not run.read_logs():
        assert not run.wait(HANG_S, events=True)
    return run


# ---- outcomes


def test_a_guest_that_returns_is_completed(node: Executor):
    before = time.time_ns()
    run, outcome = finish(node, "hello")
    assert (outcome.status, outcome.cause, outcome.exit_code) == ("completed", "exit", 0)
    assert (outcome.message, outcome.trap, outcome.backtrace) == ("", "", ())
    assert run.output == b"Hello, SPEAR!\n"
    assert outcome.output_bytes == len(run.output)
    assert before <= outcome.started_ns <= time.time_ns()
    assert 0 < outcome.duration_ns <= time.time_ns() - before + 1_000_000_000
    assert outcome.memory_bytes >= 65536
    assert outcome.log_lines == 3
    assert (outcome.log_lost, outcome.log_truncated) == (0, False)
    assert run.done


def test_log_lines_carry_number_time_level_and_stream(node: Executor):
    before = time.time_ns() // MS
    run, _ = finish(node, "hello")
    lines = run.read_logs()
    assert [line.seq for line in lines] == [1, 2, 3]
    assert [line.level for line in lines] == [2, 2, 2]
    assert [line.stream for line in lines] == ["log", "log", "stdout"]
    assert lines[0].message == "hello from a guest"
    assert lines[2].message == "Hello, SPEAR!"
    assert all(before <= line.time_ms <= time.time_ns() // MS for line in lines)
    assert repr(lines[0]) == "LogLine(1, log, 2, 'hello from a guest')"


@pytest.mark.parametrize("code", [0, 1, 42, 124, 255, 256, -1, 2**31 - 1, -(2**31)])
def test_the_exit_code_is_the_guests_own(node: Executor, code: int):
    _, outcome = finish(node, "exit_code", str(code))
    assert outcome.cause == "exit"
    assert outcome.exit_code == code
    assert outcome.status == ("completed" if code == 0 else "failed")
    assert outcome.message == ("" if code == 0 else f"the guest exited with code {code}")


def test_the_answer_guest_reads_its_input(node: Executor):
    run, outcome = finish(node, "answer", "Ada", stdin=b"the cat and the dog\nand the end")
    assert outcome.status == "completed"
    assert run.output.decode().splitlines() == [
        "Dear Ada,",
        "your text has 2 lines, 8 words and 31 bytes.",
        'The most frequent word is "the": 3 times.',
    ]


def test_the_answer_guest_reads_its_environment(node: Executor):
    run, _ = finish(node, "answer", env={"NAME": "Grace"}, stdin=b"")
    assert run.output.startswith(b"Dear Grace,\n")


@pytest.mark.parametrize(
    ("name", "trap", "functions"),
    [
        ("divide", "integer division by zero", ["divide", "share_out", "_start"]),
        ("out_of_bounds", "out of bounds memory access", ["read_at", "look_up", "_start"]),
        ("unreachable", "unreachable code reached", ["give_up", "work", "_start"]),
        ("start_trap", "unreachable code reached", ["prepare"]),
    ],
)
def test_a_trap_names_its_cause_and_the_guests_functions(
    node: Executor, name: str, trap: str, functions: list[str]
):
    _, outcome = finish(node, name)
    assert (outcome.status, outcome.cause, outcome.exit_code) == ("failed", "trap", -1)
    assert outcome.trap == trap
    assert outcome.message == f"the guest trapped: {trap}"
    assert [frame.function for frame in outcome.backtrace] == functions
    assert all(frame.offset > 0 for frame in outcome.backtrace)


@pytest.mark.parametrize("kind", ["memory", "unreachable", "divide"])
def test_the_trap_example_shows_its_calls(node: Executor, kind: str):
    _, outcome = finish(node, "trap", kind)
    shown = [frame.function for frame in outcome.backtrace]
    assert outcome.cause == "trap"
    assert [name for name in shown if name in ("price_of", "sum_prices", "main")]
    assert shown.index("price_of") < shown.index("sum_prices")


def test_endless_recursion_is_a_trap_with_a_bounded_backtrace(node: Executor):
    _, outcome = finish(node, "recurse")
    assert outcome.trap == "call stack exhausted"
    assert 1 <= len(outcome.backtrace) <= 64
    assert {frame.function for frame in outcome.backtrace} == {"descend"}


def test_frames_without_names_have_their_number(node: Executor):
    wasm = asm.module(body=asm.UNREACHABLE)
    nameless = wasm[: wasm.rindex(b"\x00", 0, wasm.rindex(b"name") - 1)]
    run = node.start(assembled(nameless))
    assert [frame.function for frame in ended(run).backtrace] == ["<function 0>"]
    assert repr(run.outcome.backtrace[0]).startswith("<function 0> (function 0, offset 0x")


def test_what_was_written_before_a_trap_is_kept(node: Executor):
    run, outcome = finish(node, "unreachable")
    assert run.output == b"half a li"
    assert [(line.stream, line.message) for line in run.read_logs()] == [
        ("log", "about to give up"), ("stdout", "half a li")
    ]  # fmt: skip
    assert outcome.output_bytes == 9


def test_a_start_function_runs_before_the_entry(node: Executor):
    run, outcome = finish(node, "start_function")
    assert outcome.exit_code == 0
    assert logged(run) == ["prepared", "started"]


@pytest.mark.parametrize("name", ["noop", "touch_small", "touch_large"])
def test_the_plain_shapes_complete(node: Executor, name: str):
    assert finish(node, name)[1].status == "completed"


def test_a_large_guest_runs_with_the_c_library(node: Executor):
    run, outcome = finish(node, "classic", "one")
    assert outcome.status == "completed"
    assert run.output == b"classic with 1 argument\n"
    assert outcome.memory_bytes >= 257 * 65536


def test_an_outcome_is_asked_for_after_the_end_only(node: Executor):
    run = parked(node)
    for early in (lambda: run.outcome, lambda: run.output):
        with pytest.raises(RuntimeError, match="not ended"):
            early()
    run.cancel()
    ended(run)
    assert run.outcome.status == run.outcome.status == "terminated"
    assert "terminated cancelled" in repr(run.outcome)


def test_runs_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        Run()


# ---- the entry


def test_another_entry_may_be_named(node: Executor):
    assert finish(node, "no_start", entry="other")[1].status == "completed"
    assert finish(node, "add", entry="_initialize")[1].status == "completed"


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("no_start", "_start", "exports no function '_start'; exported: other"),
        ("noop", "memory", "exports no function 'memory'"),
        ("noop", "", "exports no function ''"),
        ("start_signature", "_start", r"is \(i32\) -> i32; an entry is \(\) -> \(\)"),
        ("add", "add", r"\(i32, i32\) -> i32"),
    ],
)
def test_a_wrong_entry_is_refused_before_anything_runs(
    node: Executor, name: str, entry: str, said: str
):
    with pytest.raises(ModuleInvalid, match=said):
        node.start(guest(name), entry=entry)
    assert node.stats()["started"] == 0


# ---- memory


def test_memory_grows_up_to_the_limit(node: Executor):
    run, outcome = finish(node, "grow", memory_bytes_max=4 << 20)
    assert (outcome.exit_code, run.output) == (0, b"64\n")
    assert outcome.memory_bytes == 4 << 20


def test_memory_grows_to_the_default_limit(node: Executor):
    run, outcome = finish(node, "grow")
    assert (outcome.exit_code, run.output) == (0, b"1024\n")


def test_a_module_above_the_memory_limit_is_refused(node: Executor):
    with pytest.raises(ModuleLimit, match=r"131072000 bytes, the limit is 67108864"):
        node.start(guest("memory_over_limit"))
    _, outcome = finish(node, "memory_over_limit", memory_bytes_max=128 << 20)
    assert outcome.memory_bytes == 2000 * 65536


def test_a_guest_without_an_exported_memory_gets_a_warning_and_efault(node: Executor):
    run, outcome = finish(node, "no_memory")
    assert outcome.exit_code == 0, "log answered something else than -EFAULT"
    (line,) = run.read_logs()
    assert (line.level, line.stream) == (3, "log")
    assert "exports no 'memory'" in line.message


def test_a_guest_with_no_memory_at_all_runs(node: Executor):
    run = node.start(assembled(asm.module(pages=None)))
    assert ended(run).status == "completed"
    assert len(run.read_logs()) == 1


# ---- limits


@pytest.mark.parametrize("timeout_ns", [0, -1, -(2**63), 366 * 24 * 3600 * 10**9, 2**63 - 1])
def test_a_deadline_out_of_range_is_refused(node: Executor, timeout_ns: int):
    with pytest.raises(InvalidArgument, match="timeout_ns="):
        node.start(guest("noop"), timeout_ns=timeout_ns)


@pytest.mark.parametrize("huge", [2**63, -(2**63) - 1, 2**200])
@pytest.mark.parametrize("name", ["timeout_ns", "memory_bytes_max", "output_bytes_max"])
def test_a_limit_beyond_64_bits_is_refused_as_any_other(node: Executor, name: str, huge: int):
    with pytest.raises(InvalidArgument, match=f"{name}="):
        node.start(guest("noop"), **{name: huge})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_bytes_max", 0), ("memory_bytes_max", -1), ("memory_bytes_max", (4 << 30) + 1),
        ("output_bytes_max", -1), ("log_bytes_max", -1), ("log_bytes_max", 1 << 50),
    ],
)  # fmt: skip
def test_a_limit_out_of_range_is_refused(node: Executor, name: str, value: int):
    with pytest.raises(InvalidArgument, match=f"{name}={value}"):
        node.start(guest("noop"), **{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": -1}, {"workers": 65}, {"guests_max": 0}, {"guests_max": 24_001},
        {"epoch_tick_ms": 0}, {"epoch_tick_ms": 1001},
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, int]):
    (name,) = settings
    with pytest.raises(InvalidArgument, match=name):
        Executor(**settings)


TIMEOUTS = {
    "loop": ("loop", ("loop",)),
    "sleep": ("sleeper", SLEEP_FOREVER),
    "poll": ("pause", ("pause", "100000")),
    "start function": ("start_loop", ()),
    "output flood": ("stdout_flood", ("stdout_flood", "900000000000")),
    "log flood": ("log_flood", ("log_flood", "900000000000")),
}


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
@pytest.mark.parametrize("kind", TIMEOUTS)
def test_a_deadline_is_met_wherever_the_guest_is(node: Executor, kind: str, inline: bool):
    name, args = TIMEOUTS[kind]
    run = node.start(
        guest(name), args=args, timeout_ns=TIGHT, inline=inline, output_bytes_max=1 << 40,
        log_stdout=False,
    )  # fmt: skip
    outcome = ended(run)
    assert (outcome.status, outcome.cause, outcome.exit_code) == ("timeout", "deadline", -1)
    assert outcome.message == "the guest was stopped at its deadline of 0.15 s"
    assert outcome.duration_ns >= TIGHT


def test_a_deadline_of_a_nanosecond_ends_at_once(node: Executor):
    assert finish(node, "loop", timeout_ns=1)[1].cause == "deadline"


def test_writes_of_many_large_vectors_do_not_outlive_the_deadline():
    """In a process of its own: the wait for the end of such a call would be the test's."""
    probe = """
import wasm_asm as asm
from guest_runs import MS, engine
from spear._core.executor import Executor
fill = b"".join(
    asm.i32_store(1024 + 8 * i, 65536) + asm.i32_store(1028 + 8 * i, 60 << 20)
    for i in range(1024))
write = asm.i32_const(2) + asm.i32_const(1024) + asm.i32_const(1024) + asm.i32_const(64)
body = fill + asm.LOOP + write + asm.call(0) + asm.DROP + asm.BR_0 + asm.END
wasm = asm.module([(asm.WASI, "fd_write", "iiii", "i")], body, pages=1000)
run = Executor(workers=1).start(engine().load(wasm), timeout_ns=200 * MS)
over = run.wait(20)
print(over and run.outcome.cause, flush=True)
import os; os._exit(0)
"""
    assert python(probe).stdout == "deadline\n"


def test_output_beyond_its_limit_ends_the_guest(node: Executor):
    run, outcome = finish(node, "stdout_flood", "100000", output_bytes_max=50_000)
    assert (outcome.status, outcome.cause) == ("failed", "output_limit")
    assert outcome.message == "the guest wrote more than its output limit of 50000 bytes"
    assert outcome.output_bytes == len(run.output) <= 50_000
    assert (b"abcdefghijklmnopqrstuvwxyz" * 2000)[:63] == run.output[:63]


def test_output_up_to_its_limit_is_all_kept(node: Executor):
    run, outcome = finish(node, "stdout_flood", "100000", output_bytes_max=100_000)
    assert outcome.status == "completed"
    assert len(run.output) == 100_000


def test_no_output_may_be_allowed(node: Executor):
    assert finish(node, "hello", output_bytes_max=0)[1].cause == "output_limit"
    assert finish(node, "noop", output_bytes_max=0)[1].cause == "exit"


def test_the_output_limit_is_not_for_stderr(node: Executor):
    _, outcome = finish(node, "stdout_flood", "5000", "2", output_bytes_max=10)
    assert (outcome.status, outcome.output_bytes) == ("completed", 0)
    assert outcome.log_lines == 79


def test_the_log_is_truncated_with_a_mark(node: Executor):
    run, outcome = finish(node, "log_flood", "100", "100", log_bytes_max=1000)
    lines = run.read_logs()
    assert outcome.status == "completed"
    assert outcome.log_truncated
    assert [line.message[:13] for line in lines[:10]] == [f"line {n:08}" for n in range(10)]
    assert "log limit" in lines[10].message
    assert lines[10].level == 3
    assert len(lines) == 11


def test_a_ring_that_overflows_loses_the_oldest_and_counts_them(node: Executor):
    run, outcome = finish(node, "log_flood", "5000")
    lines = run.read_logs()
    assert (outcome.log_lines, outcome.log_lost) == (5000, 5000 - 2048)
    assert [line.seq for line in lines] == list(range(5001 - 2048, 5001))
    assert lines[0].message == f"line {5000 - 2048:08}"
    assert not outcome.log_truncated


def test_a_reader_that_keeps_up_loses_nothing(node: Executor):
    run = node.start(guest("log_flood"), args=("log_flood", "2048"))
    seen = []
    while not run.wait(HANG_S, events=True):
        seen += run.read_logs(100)
    while batch := run.read_logs(100):
        assert len(batch) <= 100
        seen += batch
    assert [line.seq for line in seen] == list(range(1, 2049))
    assert run.outcome.log_lost == 0


# ---- lines of stdout and stderr


def written(*pieces: bytes, fd: int = 1) -> bytes:
    """A module that writes each piece by a call of its own."""
    at, data, body = 1024, [], b""
    for piece in pieces:
        data.append((at, piece))
        body += asm.i32_store(0, at) + asm.i32_store(4, len(piece))
        body += asm.i32_const(fd) + asm.i32_const(0) + asm.i32_const(1) + asm.i32_const(8)
        body += asm.call(0) + asm.DROP
        at += len(piece)
    pages = at // 65536 + 1
    row = (asm.WASI, "fd_write", "iiii", "i")
    return asm.module([row], body, pages=pages, data=data)


LINES = {
    "one": ([b"one\n"], ["one"]),
    "without an end": ([b"one"], ["one"]),
    "two": ([b"one\ntwo\n"], ["one", "two"]),
    "empty ones": ([b"\n\na\n\n"], ["", "", "a", ""]),
    "in pieces": ([b"o", b"n", b"e\nt", b"wo", b"\n"], ["one", "two"]),
    "nothing": ([b""], []),
    "carriage returns": ([b"a\r\nb\rc\n"], ["a\r", "b\rc"]),
    "not UTF-8": ([b"\xff\xfea\n"], ["\ufffd\ufffda"]),
    "a NUL": ([b"a\0b\n"], ["a\0b"]),
    "the longest": ([b"x" * 16384 + b"\n"], ["x" * 16384]),
    "the longest, its end alone": ([b"x" * 16384, b"\n"], ["x" * 16384]),
    "the longest, then another": ([b"x" * 16384, b"\na\n"], ["x" * 16384, "a"]),
    "too long": ([b"x" * 16385 + b"\n"], ["x" * 16384, "x"]),
    "far too long": ([b"x" * 40000 + b"\n"], ["x" * 16384, "x" * 16384, "x" * 7232]),
    "a long one in pieces": ([b"x" * 10000] * 2 + [b"y\nz"], ["x" * 16384, "x" * 3616 + "y", "z"]),
}


@pytest.mark.parametrize("fd", [1, 2], ids=["stdout", "stderr"])
@pytest.mark.parametrize("kind", LINES)
def test_what_is_written_is_logged_by_lines(node: Executor, kind: str, fd: int):
    pieces, lines = LINES[kind]
    run = node.start(assembled(written(*pieces, fd=fd)))
    assert ended(run).status == "completed"
    logs = run.read_logs()
    assert [line.message for line in logs] == lines
    assert {(line.stream, line.level) for line in logs} <= {
        ("stdout", 2) if fd == 1 else ("stderr", 4)
    }
    assert run.output == (b"".join(pieces) if fd == 1 else b"")


def test_stdout_is_logged_only_if_asked(node: Executor):
    run = node.start(guest("hello"), log_stdout=False)
    assert ended(run).log_lines == 2
    assert run.output == b"Hello, SPEAR!\n"


# ---- reading while it runs


def test_output_and_logs_are_read_as_they_come(node: Executor):
    run = node.start(guest("stdout_flood"), args=("stdout_flood", "1000000"), log_stdout=False)
    got = b""
    while not run.wait(HANG_S, events=True):
        got += run.read_output()
    got += run.read_output()
    assert run.read_output() == b""
    assert got == run.output
    assert len(got) == 1_000_000


def test_a_wait_for_events_ends_when_there_is_something_to_read(node: Executor):
    run = node.start(guest("sleeper"), args=SLEEP_FOREVER)
    assert not run.wait(HANG_S, events=True)
    assert logged(run) == ["going to sleep for -1 ms"]
    assert not run.wait(0.01, events=True), "nothing new: the limit ends it"
    run.cancel()
    assert run.wait(HANG_S, events=True)
    assert run.wait(0)


@pytest.mark.parametrize("timeout_s", [0, 0.0, -1, 0.01, -1e300])
def test_a_wait_has_its_limit(node: Executor, timeout_s: float):
    run = parked(node)
    assert run.wait(timeout_s) is False
    assert not run.done


def test_a_run_may_be_waited_for_by_many_threads(node: Executor):
    run, seen = parked(node), []
    threads = [threading.Thread(target=lambda: seen.append(run.wait(HANG_S))) for _ in range(8)]
    for thread in threads:
        thread.start()
    run.cancel("enough")
    for thread in threads:
        thread.join()
    assert seen == [True] * 8
    assert run.outcome.message == "the guest was cancelled: enough"


# ---- cancel


def in_another_thread(call: object) -> object:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()))  # type: ignore[operator]
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("state", ["running", "parked", "in a poll", "queued", "in its start"])
def test_a_cancel_reaches_the_guest_in_each_state(state: str):
    with executor(workers=1) as node:
        if state == "queued":  # behind one that has the only worker
            looping(node)
            kept = [node.start(guest("loop"), args=("loop",)) for _ in range(3)]
            run = kept.pop()
        elif state == "running":
            run = looping(node)
        elif state == "parked":
            run = parked(node)
        elif state == "in a poll":
            run = node.start(guest("pause"), args=("pause", "900000"))
        else:
            run = node.start(guest("start_loop"))
        assert in_another_thread(lambda: run.cancel("why not")) is True
        outcome = ended(run)
        assert (outcome.status, outcome.cause, outcome.exit_code) == ("terminated", "cancelled", -1)
        assert outcome.message == "the guest was cancelled: why not"
        assert run.cancel("again") is False
        assert run.outcome.message == outcome.message


def test_a_cancel_after_the_end_changes_nothing(node: Executor):
    run, outcome = finish(node, "hello")
    assert run.cancel("late") is False
    assert (run.outcome.status, run.outcome.message) == (outcome.status, "")


def test_the_first_cancel_gives_the_reason(node: Executor):
    run = looping(node)
    given = [run.cancel(reason) for reason in ("first", "second")]
    assert given[0] is True
    assert ended(run).message == "the guest was cancelled: first"


def test_cancels_from_many_threads_end_it_once(node: Executor):
    for make in (looping, parked):
        run, barrier, won = make(node), threading.Barrier(6), []

        def cancel(run: Run = run, barrier: threading.Barrier = barrier, won: list = won) -> None:
            barrier.wait()
            won.append(run.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended(run)
        assert won.count(True) == 1


def test_guests_cancelled_in_the_queue_leave_no_trace():
    """More of them than the run queue has room for, while the only worker is busy."""
    with executor(workers=1, guests_max=2, epoch_tick_ms=200) as node:
        looping(node)
        causes = set()
        for _ in range(4000):
            run = node.start(guest("noop"))
            run.cancel()
            causes.add(ended(run).cause)
        assert causes <= {"cancelled", "exit"}


# ---- dropping


def drained(node: Executor, live: int = 0) -> None:
    """Until so many guests live; only what runs on another thread may take a while."""
    until = time.monotonic() + 20
    while node.stats()["live"] > live and time.monotonic() < until:
        time.sleep(0.001)
    assert node.stats()["live"] == live


@pytest.mark.parametrize("make", [looping, parked])
def test_a_dropped_run_is_cancelled(node: Executor, make: object):
    run = make(node)  # type: ignore[operator]
    assert node.stats()["live"] == 1
    del run
    drained(node)


def test_a_run_dropped_in_a_cycle_is_cancelled():
    """In a process of its own: what goes wrong here is a crash."""
    probe = """
import gc
from guest_runs import executor, guest
with executor(workers=1) as node:
    for _ in range(10):
        run = node.start(guest("sleeper"), args=("sleeper", "-1"))
        ring = [run]
        ring.append(ring)
        del run, ring
        gc.collect()
    print(node.stats()["live"])
"""
    done = python(probe)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_a_run_outlives_the_name_of_its_executor():
    node = Executor(workers=1)
    run = node.start(guest("sleeper"), args=("sleeper", "20"))
    del node
    gc.collect()
    assert ended(run).status == "completed"


# ---- how many


def test_a_node_is_busy_beyond_its_guests():
    with executor(guests_max=3) as node:
        runs = [parked(node) for _ in range(3)]
        with pytest.raises(NodeBusy, match="3 guests live already"):
            node.start(guest("noop"))
        assert node.stats()["live"] == 3
        runs[0].cancel()
        ended(runs[0])
        drained(node, 2)
        assert ended(node.start(guest("noop"))).status == "completed"


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_an_ended_guest_leaves_its_place_at_once(inline: bool):
    with executor(workers=1, guests_max=1) as node:
        for _ in range(2000):
            ended(node.start(guest("noop"), inline=inline))


def test_many_threads_may_start_at_once(node: Executor):
    barrier, statuses = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        runs = [node.start(guest("hello"), inline=n % 2 == 0) for n in range(50)]
        statuses.extend(ended(run).status for run in runs)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == ["completed"] * 400
    stats = node.stats()
    assert (stats["started"], stats["ended"]) == (400, 400)


def test_a_thousand_may_be_parked():
    with executor(workers=1, guests_max=1000) as node:
        runs = [node.start(guest("sleeper"), args=SLEEP_FOREVER) for _ in range(1000)]
        for run in runs:
            while not run.read_logs():
                run.wait(events=True)
        assert node.stats()["live"] == 1000
        for run in runs:
            assert run.cancel()
        assert {ended(run).cause for run in runs} == {"cancelled"}


def test_a_loop_does_not_stop_the_others():
    with executor(workers=1) as node:
        loops = [looping(node) for _ in range(3)]
        for _ in range(5):
            assert finish(node, "hello")[1].status == "completed"
        assert finish(node, "sleeper", "5")[1].status == "completed"
        assert not any(run.done for run in loops)


def test_loops_share_the_workers():
    """Each of more loops than workers gets on: each reaches its own end."""
    with executor(workers=1) as node:
        runs = [node.start(guest("loop"), args=("loop", "0.2")) for _ in range(4)]
        assert [ended(run).status for run in runs] == ["completed"] * 4


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_many_short_runs(node: Executor, inline: bool):
    for _ in range(500):
        assert finish(node, "noop", inline=inline)[1].status == "completed"


def test_an_inline_guest_that_parks_is_finished_by_a_worker(node: Executor):
    run = node.start(guest("sleeper"), args=("sleeper", "20"), inline=True)
    assert ended(run).status == "completed"
    assert run.output == b"slept well\n"


# ---- the end of an executor


def test_a_closed_executor_takes_no_more():
    node = Executor(workers=1)
    ended(node.start(guest("noop")))
    node.close()
    for inline in (False, True):
        with pytest.raises(NodeClosed):
            node.start(guest("noop"), inline=inline)
    node.close()
    node.close(5)


def test_an_executor_that_ran_nothing_closes():
    Executor(workers=4).close()
    Executor(workers=4).close(10)


@pytest.mark.parametrize("make", [looping, parked])
def test_a_close_ends_what_still_runs(make: object):
    node = Executor(workers=2)
    runs = [make(node) for _ in range(3)]  # type: ignore[operator]
    node.close()
    assert all(run.done for run in runs)
    assert {run.outcome.cause for run in runs} == {"cancelled"}


def test_a_close_waits_for_its_grace():
    node = Executor(workers=1)
    short = node.start(guest("sleeper"), args=("sleeper", "50"))
    node.close(HANG_S)
    assert short.outcome.status == "completed"


def test_a_close_after_its_grace_ends_the_rest():
    node = Executor(workers=1)
    short, endless = node.start(guest("sleeper"), args=("sleeper", "1")), parked(node)
    ended(short)
    node.close(0.02)
    assert endless.outcome.cause == "cancelled"


def test_a_close_while_others_start_leaves_nobody():
    for _ in range(20):
        node, runs = Executor(workers=2), []

        def work(node: Executor = node, runs: list = runs) -> None:
            try:
                while True:
                    runs.append(node.start(guest("loop"), args=("loop",), timeout_ns=20_000 * MS))
            except (NodeClosed, NodeBusy):
                return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        node.close()
        for thread in threads:
            thread.join()
        assert {ended(run).cause for run in runs} <= {"cancelled"}
        assert node.stats()["live"] == 0
        assert node.stats()["ended"] == node.stats()["started"] == len(runs)


def test_a_forked_child_may_go_on_and_end():
    probe = """
import os, sys, time
from guest_runs import guest
from spear._core.executor import Executor
node = Executor(workers=1)
run = node.start(guest("sleeper"), args=("sleeper", "-1"))
while not run.read_logs():
    run.wait(events=True)
child = os.fork()
if child == 0:
    sys.exit(0)
until, status = time.monotonic() + 10, (0, None)
while status[0] == 0 and time.monotonic() < until:
    status = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
if status[0] == 0:
    os.kill(child, 9)
print(status[1])
run.cancel()
print(run.wait(10), run.outcome.cause)
"""
    done = python(probe)
    assert done.stdout == "0\nTrue cancelled\n", done.stderr


# ---- await

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as made:
        yield made


async def outcome_of(run: Run) -> Outcome:
    return await run


def test_a_run_is_awaited(runner: asyncio.Runner, node: Executor):
    outcome = runner.run(outcome_of(node.start(guest("sleeper"), args=("sleeper", "10"))))
    assert outcome.status == "completed"


def test_a_run_that_ended_is_awaited_at_once(runner: asyncio.Runner, node: Executor):
    run, _ = finish(node, "hello")
    assert runner.run(outcome_of(run)).status == "completed"
    assert runner.run(outcome_of(run)).status == "completed"


def test_many_runs_are_awaited_together(runner: asyncio.Runner, node: Executor):
    async def work() -> list[Outcome]:
        runs = [node.start(guest("sleeper"), args=("sleeper", str(n % 7))) for n in range(600)]
        return await asyncio.gather(*map(outcome_of, runs))

    assert {outcome.status for outcome in runner.run(work())} == {"completed"}


def test_many_tasks_await_one_run(runner: asyncio.Runner, node: Executor):
    async def work() -> list[Outcome]:
        run = parked(node)
        tasks = [asyncio.ensure_future(outcome_of(run)) for _ in range(10)]
        await asyncio.sleep(0.01)
        run.cancel()
        return await asyncio.gather(*tasks)

    assert [outcome.cause for outcome in runner.run(work())] == ["cancelled"] * 10


def test_a_cancelled_task_leaves_the_run_to_others(runner: asyncio.Runner, node: Executor):
    async def work() -> Outcome:
        run = parked(node)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outcome_of(run), 0.02)
        task = asyncio.ensure_future(outcome_of(run))
        await asyncio.sleep(0)
        run.cancel("by hand")
        return await task

    assert runner.run(work()).message == "the guest was cancelled: by hand"


def test_a_run_dropped_after_a_cancelled_await_is_cancelled(
    runner: asyncio.Runner, node: Executor
):
    async def work() -> None:
        run = parked(node)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outcome_of(run), 0.02)

    runner.run(work())
    gc.collect()
    drained(node)


def test_the_loop_goes_on_while_guests_run(runner: asyncio.Runner, node: Executor):
    async def work() -> int:
        run = node.start(guest("loop"), args=("loop", "0.1"))
        turns, task = 0, asyncio.ensure_future(outcome_of(run))
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert task.result().status == "completed"
        return turns

    assert runner.run(work()) > 3


@pytest.mark.parametrize("where", ["on the loop", "on a thread"])
def test_a_close_wakes_those_who_await(runner: asyncio.Runner, where: str):
    node = Executor(workers=1)

    async def work() -> Outcome:
        task = asyncio.ensure_future(outcome_of(parked(node)))
        await asyncio.sleep(0)
        if where == "on the loop":
            node.close()
        else:
            await asyncio.to_thread(node.close)
        return await asyncio.wait_for(task, 5)

    assert runner.run(work()).cause == "cancelled"


def test_two_loops_await_their_own_runs(node: Executor):
    results = {}

    def work(name: str) -> None:
        async def many() -> list[Outcome]:
            runs = [node.start(guest("sleeper"), args=("sleeper", "5")) for _ in range(100)]
            return await asyncio.gather(*map(outcome_of, runs))

        with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
            results[name] = {outcome.status for outcome in runner.run(many())}

    threads = [threading.Thread(target=work, args=(name,)) for name in LOOPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(LOOPS, {"completed"})


def test_a_run_awaited_on_a_second_loop_is_refused_or_served(node: Executor):
    """Never a hang: a clear error, or the outcome."""
    run, said = parked(node), []

    def elsewhere() -> None:
        try:
            said.append(asyncio.run(asyncio.wait_for(outcome_of(run), HANG_S)).cause)
        except RuntimeError as error:
            said.append(str(error))

    async def here() -> None:
        task = asyncio.ensure_future(outcome_of(run))
        await asyncio.sleep(0)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.sleep(0.05)
        run.cancel()
        assert (await task).cause == "cancelled"
        await asyncio.to_thread(thread.join)

    asyncio.run(here())
    assert said == ["cancelled"] or "another event loop" in said[0]


def test_loops_come_and_go(node: Executor):
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        run = node.start(guest("sleeper"), args=("sleeper", "1"))
        assert asyncio.run(outcome_of(run)).status == "completed"
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= open_before + 2


# ---- without a loop: who drives the coroutine waits


def test_a_driver_gets_the_run_and_waits(node: Executor):
    run = node.start(guest("sleeper"), args=("sleeper", "10"))
    coroutine = outcome_of(run)
    assert coroutine.send(None) is run
    ended(run)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value.status == "completed"


def test_a_driver_that_comes_early_gets_the_run_again(node: Executor):
    run = parked(node)
    coroutine = outcome_of(run)
    assert coroutine.send(None) is run
    assert coroutine.send(None) is run
    run.cancel()
    ended(run)
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_a_run_that_ended_needs_no_driver(node: Executor):
    run, _ = finish(node, "noop")
    with pytest.raises(StopIteration):
        outcome_of(run).send(None)


# ---- the GIL, and signals


def hold_the_gil(seconds: float) -> None:
    """In C, without letting go: nothing in this process that needs the GIL gets on."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def test_guests_get_on_while_the_gil_is_held():
    """Fifty sleeps of a guest need its wake-ups, and a hundred starts need a worker's turn."""
    with executor(workers=1) as node:
        ended(node.start(guest("noop")))
        sleepers = [node.start(guest("sleeper"), args=("sleeper", "20")) for _ in range(40)]
        loop = looping(node)
        before = node.stats()
        hold_the_gil(0.5)
        after = node.stats()
        assert before["ended"] < 41
        assert after["ended"] >= 41, "all sleepers ended meanwhile"
        assert after["polls"] - before["polls"] >= 10, "the loop had its slices meanwhile"
        assert all(run.done for run in sleepers)
        loop.cancel()


def test_a_deadline_is_met_while_the_gil_is_held(node: Executor):
    run = looping(node, timeout_ns=100 * MS)
    hold_the_gil(0.6)
    assert run.done
    assert run.outcome.cause == "deadline"
    assert run.outcome.duration_ns < 500 * MS, "it ended while the GIL was held"


def test_other_threads_run_python_during_a_wait(node: Executor):
    run, counted = looping(node), []
    waiting = threading.Thread(target=lambda: counted.append(run.wait(HANG_S)))
    waiting.start()
    assert sum(range(100_000)) > 0
    run.cancel()
    waiting.join()
    assert counted == [True]


def test_an_inline_slice_lets_go_of_the_gil():
    """A guest that loops inline on one thread is cancelled by another."""
    with executor(workers=1) as node:
        done = threading.Event()
        threading.Thread(target=lambda: (done.wait(0.05), node.close())).start()
        run = node.start(guest("loop"), args=("loop",), inline=True)
        assert ended(run).cause == "cancelled"


def test_a_signal_interrupts_a_wait():
    probe = """
import os, signal, threading
from guest_runs import executor, guest
with executor(workers=1) as node:
    run = node.start(guest("loop"), args=("loop",))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        run.wait(30)
    except KeyboardInterrupt:
        print("interrupted", run.done)
    run.cancel()
    print(run.wait(30), run.outcome.cause)
"""
    done = python(probe)
    assert done.stdout == "interrupted False\nTrue cancelled\n", done.stderr


def test_native_threads_take_no_signals(node: Executor):
    finish(node, "noop")
    own = {thread.native_id for thread in threading.enumerate()}
    blocked = {}
    for task in os.listdir("/proc/self/task"):
        if int(task) not in own:
            with open(f"/proc/self/task/{task}/status") as file:
                fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            blocked[task] = int(fields["SigBlk"], 16)
    term = 1 << (signal.SIGTERM - 1)
    assert sum(1 for mask in blocked.values() if mask & term) >= 3, "two workers, a timekeeper"

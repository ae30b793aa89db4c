"""Outcomes: each guest does what its source says, within its limits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import wasm_asm as asm
from guest_runs import (
    HANG_S,
    MS,
    assembled,
    ended,
    executor,
    finish,
    guest,
    logged,
    parked,
)

from spear._core.engine import Engine
from spear._core.executor import Executor
from spear._core.run import Run
from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


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


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_an_instance_made_in_place_fails_as_one_made_on_a_fiber(node: Executor, inline: bool):
    """Data beyond the memory: the first imports nothing that waits, the second does."""
    outcomes = []
    for imports in ([], [("spear", "sleep_ms", "i", "")]):
        module = assembled(asm.module(imports, data=[(65_530, b"too long")]))
        outcomes.append(ended(node.start(module, inline=inline)))
    assert {outcome.cause for outcome in outcomes} == {"trap"}
    assert {outcome.trap for outcome in outcomes} == {"out of bounds memory access"}


def test_an_instance_made_in_place_counts_its_fuel():
    with executor() as made:
        module = Engine(slots=2, metered=True).load(asm.module([], data=[(0, b"x" * 1000)]))
        outcome = ended(made.start(module, fuel=100_000))
        assert (outcome.cause, outcome.exit_code) == ("exit", 0)
        assert outcome.fuel < 2000


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
    with pytest.raises(ModuleLimit, match="125 MiB, the limit is 64 MiB"):
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


class Misleading(list):  # type: ignore[type-arg]
    """Says it is empty and yields all the same."""

    def __len__(self) -> int:
        return 0


def test_arguments_are_counted_as_they_are_read(node: Executor):
    run, outcome = finish(node, "environ", *[])
    assert outcome.status == "completed"
    run = node.start(guest("environ"), args=Misleading(["x"] * 2000))
    assert ended(run).status == "completed"
    assert run.output.count(b"arg x") == 2000


def test_a_flood_of_empty_lines_ends_with_the_mark(node: Executor):
    """They count no bytes, so their number is limited."""
    run = node.start(guest("stdout_flood"), args=["stdout_flood", "1100000", "2", "1"])
    outcome = ended(run)
    assert outcome.log_truncated
    assert outcome.log_lines <= 1_000_001

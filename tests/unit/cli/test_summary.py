"""What repeated runs come to, by hand-written records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.cli import exits
from spear.cli.running import summary
from spear.cli.running.summary import Failure, Tally
from spear.records.usage import Usage

PROGRAM = cast(Any, SimpleNamespace(digest="d", shape="small", source="cache"))
LINE = SimpleNamespace(seq=0, time_ms=1, level=2, stream="log", message="a line")


def execution(cause: str = "exit", code: int | None = 0, **more: Any) -> Any:
    statuses = {"deadline": "timeout", "cancelled": "terminated"}
    status = statuses.get(cause, "failed") if code or cause != "exit" else "completed"
    found = SimpleNamespace(
        status=status, cause=cause, exit_code=code, completed=status == "completed",
        duration_ns=1000, memory_bytes=65536, output=b"", error=None, usage=None,
    )  # fmt: skip
    found.__dict__.update(more)
    return found


def tally_of(*executions: Any, count: int | None = None) -> Tally:
    tally = Tally(count or len(executions), 2)
    for number, each in enumerate(executions, 1):
        tally.add(number, each)
    return tally


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=300))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[int]) -> None:
    found = summary.latencies(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    for rank in (50, 90, 99):
        enough = [v for v in values if sum(w <= v for w in values) * 100 >= rank * len(values)]
        assert found[f"p{rank}"] == min(enough)


def test_latencies_of_nothing_are_zeros() -> None:
    assert set(summary.latencies([]).values()) == {0}


def test_all_completed_is_zero() -> None:
    tally = tally_of(execution(), execution())
    assert (tally.exit_code, tally.ended, tally.statuses["completed"]) == (exits.OK, 2, 2)
    assert tally.causes == {}


def test_what_all_runs_used_of_models_is_one_sum() -> None:
    tally = tally_of(execution(), execution(usage=Usage(calls=1, prompt_tokens=5)),
                     execution(usage=Usage(calls=2, model_ns=10**6)))  # fmt: skip
    shown = summary.as_document(tally, PROGRAM, [])["usage"]
    assert (shown["calls"], shown["prompt_tokens"], shown["model_ms"]) == (3, 5, 1.0)
    assert set(summary.as_document(tally_of(execution()), PROGRAM, [])["usage"].values()) == {0}


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        (execution(code=3), 3),
        (execution("deadline", None), exits.TIMED_OUT),
        (execution("trap", None), exits.TRAPPED),
        (execution("output_limit", None), exits.ENDED),
    ],
)
def test_the_exit_code_is_that_of_the_failed_run_that_was_started_first(
    failed: Any, code: int
) -> None:
    tally = Tally(9, 2)
    tally.add(7, execution(code=77))
    tally.add(5, failed)
    tally.add(6, execution("trap", None))
    tally.add(1, execution())
    assert tally.exit_code == code
    tally.interrupted = True
    assert tally.exit_code == exits.INTERRUPTED


def test_the_first_runs_output_stays_whenever_it_ends() -> None:
    tally = Tally(2, 2)
    tally.add(2, execution(output=b"second"))
    tally.add(1, execution(output=b"first"))
    assert tally.output == b"first"


def test_the_failures_that_were_started_first_are_shown() -> None:
    tally = Tally(100, 2)
    for number in (50, 9, 30, 8, 70, 10):
        if tally.wants(number):
            tally.keep(Failure(number, execution("trap", None), []))
    assert [failure.number for failure in tally.failures] == [8, 9, 10]
    assert not tally.wants(11)


def test_the_table_has_a_row_for_what_there_is() -> None:
    tally = tally_of(execution(), execution("trap", None), execution(code=1), count=5)
    tally.elapsed_ns = 2 * 10**9
    assert summary.as_text(tally).splitlines() == [
        "runs       3  2 at a time, 2 s, 2 a second",
        "completed  1",
        "failed     2",
        "causes        exit 1, trap 1",
        "given up   2  not begun, or ended by the interrupt",
        "latency       min 1 us  p50 1 us  p90 1 us  p99 1 us  max 1 us",
        "memory        64 KiB at most",
    ]


def test_the_document_has_the_same_keys_whatever_happened() -> None:
    empty = summary.as_document(Tally(3, 1), PROGRAM, [])
    failed = tally_of(execution("trap", None, output=b"\xff"), execution())
    failed.keep(Failure(1, execution("trap", None), [cast(Any, LINE)]))
    full = summary.as_document(failed, PROGRAM, ["the cache"])
    assert list(empty) == list(full)
    assert (empty["status"], full["status"]) == ("completed", "failed")
    assert (full["output"], full["output_encoding"], full["output_bytes"]) == ("/w==", "base64", 1)
    assert full["failures"][0]["logs"][0]["message"] == "a line"
    assert (full["causes"], full["exit_code"]) == ({"trap": 1}, exits.TRAPPED)

"""The table of states, and what a record keeps of an outcome."""

from __future__ import annotations

import pytest

from spear.runtime.invocation import Invocation
from spear.runtime.stub import StubRun
from spear.spearlet.execution.execution import STATUSES, TRANSITIONS, Execution

INVOCATION = Invocation(
    stdin=b"12345", timeout_ns=10, memory_bytes_max=20, output_bytes_max=30, log_bytes_max=40
)


def record() -> Execution:
    return Execution(
        "id", task_name="t", node_name="n", artifact="d", created_ns=1, invocation=INVOCATION
    )


def test_every_state_leads_on_or_is_terminal() -> None:
    assert {s for s, onward in TRANSITIONS.items() if not onward} == {
        "completed", "failed", "terminated", "timeout",
    }  # fmt: skip
    assert {s for onward in TRANSITIONS.values() for s in onward} <= set(STATUSES)


@pytest.mark.parametrize("start", STATUSES)
@pytest.mark.parametrize("end", STATUSES)
def test_only_the_steps_of_the_table_are_taken(start: str, end: str) -> None:
    execution = record()
    execution.status = start
    if end in TRANSITIONS[start]:
        execution.advance(end)
        assert execution.status == end
    else:
        with pytest.raises(RuntimeError, match=f"from {start} to {end}"):
            execution.advance(end)


def test_a_record_begins_pending_with_its_limits() -> None:
    execution = record()
    assert (execution.status, execution.ended, execution.durability) == (
        "pending", False, "volatile",
    )  # fmt: skip
    assert execution.input_bytes == 5
    assert execution.limits == {
        "timeout_ns": 10, "memory_bytes": 20, "output_bytes": 30, "log_bytes": 40, "fuel": None,
    }  # fmt: skip


def test_a_completed_outcome_is_kept_without_an_error() -> None:
    execution, run = record(), StubRun(INVOCATION)
    run.finish(started_ns=5, duration_ns=7)
    execution.advance("running")
    execution.finish(run.outcome, b"out")
    assert (execution.completed, execution.ended, execution.exit_code) == (True, True, 0)
    assert (execution.started_ns, execution.finished_ns, execution.output) == (5, 12, b"out")
    assert execution.error is None


def test_a_failure_keeps_its_code_trap_and_backtrace() -> None:
    execution, run = record(), StubRun(INVOCATION)
    run.finish("failed", "trap", trap="unreachable", message="trapped", backtrace=["frame"])
    execution.advance("running")
    execution.finish(run.outcome, b"")
    assert execution.error is not None
    assert (execution.error.code, execution.error.trap) == ("TRAP", "unreachable")
    assert execution.error.backtrace == ("frame",)
    assert execution.exit_code is None


@pytest.mark.parametrize("code", [7, -1, -(2**31)])
def test_an_exit_code_is_kept_whatever_its_sign(code: int) -> None:
    execution, run = record(), StubRun(INVOCATION)
    run.finish("failed", "exit", exit_code=code)
    execution.advance("running")
    execution.finish(run.outcome, b"")
    assert execution.exit_code == code


def test_a_second_end_is_a_broken_invariant() -> None:
    execution, run = record(), StubRun(INVOCATION)
    run.finish()
    execution.advance("running")
    execution.finish(run.outcome, b"")
    with pytest.raises(RuntimeError):
        execution.finish(run.outcome, b"")


def test_who_sees_the_end_sees_all_of_the_record() -> None:
    """Other threads look while a record is filled; the state changes last."""
    execution, run = record(), StubRun(INVOCATION)
    run.finish("failed", "trap", message="trapped")
    execution.advance("running")
    seen = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            seen.append(execution.ended)
            return getattr(run.outcome, name)

    execution.finish(Watched(), b"out")  # type: ignore[arg-type]
    assert not any(seen)
    assert execution.ended

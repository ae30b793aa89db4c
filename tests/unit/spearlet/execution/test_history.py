"""What has ended is remembered within its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spear.runtime.invocation import Invocation
from spear.spearlet.execution.execution import Execution
from spear.spearlet.execution.history import History

INVOCATION = Invocation(timeout_ns=1, memory_bytes_max=1, output_bytes_max=1, log_bytes_max=1)


def ended(id: str, *, output: bytes = b"") -> Execution:
    execution = Execution(
        id, task_name="t", node_name="n", artifact="d", created_ns=0, invocation=INVOCATION
    )
    execution.status, execution.output = "completed", output
    return execution


def ids(history: History) -> list[str]:
    return [execution.id for execution in history]


def test_the_first_to_end_leaves_first_when_there_are_too_many() -> None:
    history = History(count_max=2, bytes_max=100, age_ns_max=100)
    for id in "abc":
        history.add(ended(id), 0)
    assert ids(history) == ["b", "c"]
    assert history.get("a") is None


def test_outputs_are_bounded_in_bytes() -> None:
    history = History(count_max=9, bytes_max=10, age_ns_max=100)
    for id in "abc":
        history.add(ended(id, output=b"12345"), 0)
    assert ids(history) == ["b", "c"]
    assert history.stats() == {"count": 2, "output_bytes": 10}


def test_an_output_larger_than_all_is_not_remembered() -> None:
    history = History(count_max=9, bytes_max=10, age_ns_max=100)
    history.add(ended("a", output=b"x" * 11), 0)
    assert ids(history) == []


def test_what_is_old_is_forgotten() -> None:
    history = History(count_max=9, bytes_max=10, age_ns_max=100)
    history.add(ended("a"), 0)
    history.add(ended("b"), 50)
    history.trim(100)
    assert ids(history) == ["b"]


@given(st.lists(st.integers(0, 12)), st.integers(0, 5), st.integers(0, 30))
def test_no_bound_is_ever_passed(sizes: list[int], count_max: int, bytes_max: int) -> None:
    history = History(count_max=count_max, bytes_max=bytes_max, age_ns_max=10)
    for number, size in enumerate(sizes):
        history.add(ended(str(number), output=b"x" * size), number)
        kept = list(history)
        assert len(kept) <= count_max
        assert sum(len(execution.output) for execution in kept) <= bytes_max
        assert all(number - int(execution.id) < 10 for execution in kept)

"""Traces: what is written is read again, what is damaged is named, what differs is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear._core.trace import Step
from spear.errors import InvalidArgument
from spear.spearlet import tracefile

U64 = st.integers(0, 2**64 - 1)
HEAD = tracefile.head_of(
    engine="e", module="m", seed=7, args=("a",), env={"K": "secret"}, stdin=b"secret",
    limits={"fuel": None, "timeout_ns": 5},
)  # fmt: skip


def step(number: int, **more: int) -> Step:
    fields = {"kind": 2, "guest": 1, "now_ns": 5, "fuel": 5, "detail": 1, "digest": 2} | more
    return Step(number, **fields)


def lines(*steps: Step) -> list[str]:
    return [tracefile.head_line(HEAD), *map(tracefile.step_line, steps)]


@given(st.lists(st.tuples(st.integers(1, 5), U64, U64, U64, U64, U64), max_size=20))
def test_what_is_written_is_read_again(rows):
    steps = [Step(number, *row) for number, row in enumerate(rows, 1)]
    end = tracefile.end_line(len(steps), 9, "completed", b"out")
    found = tracefile.read([*lines(*steps), end], "t")
    assert (found.head, found.steps) == (HEAD, steps)
    assert found.end is not None
    assert found.end["steps"] == len(steps)


def test_inputs_are_only_told_by_their_digests():
    assert "secret" not in tracefile.head_line(HEAD)


def test_a_recording_that_was_cut_off_is_read_up_to_there():
    whole = [*lines(step(1), step(2))]
    found = tracefile.read([*whole[:-1], whole[-1][:-5]], "t")
    assert (found.steps, found.end) == ([step(1)], None)
    assert tracefile.read(whole, "t").end is None
    assert "did not finish" in tracefile.difference(found, 2, step(2))


@pytest.mark.parametrize(("content", "said"), [
    ([], "is no trace"),
    (["[]\n"], "is no trace"),
    (["nonsense\n"], "line 1: not JSON"),
    (['{"trace":2}\n'], "format 2, this build reads 1"),
    (['{"trace":1,"seed":-1}\n'], "a seed of 64 bits"),
    (['{"trace":1,"seed":true}\n'], "a seed of 64 bits"),
    ([*lines(step(2))], "step 1 was expected, found 2"),
    ([*lines(), '[1,"slice",1,2]\n'], "line 2: no step"),
    ([*lines(), '[1,"dance",1,2,3,"0000000000000000","0000000000000000"]\n'], "no step"),
    ([*lines(), '[1,"slice",1,2,3,"00","0000000000000000"]\n'], "16 hex digits"),
    ([*lines(), '[1,"slice",1,2,"3","0000000000000000","0000000000000000"]\n'], "numbers"),
    ([*lines(), '{"end":"x"}\n', "[]\n"], "nothing may follow"),
    ([*lines(), "[" * 100_000 + "\n"], "line 2"),
])  # fmt: skip
def test_what_is_no_trace_is_refused_with_its_line(content: list[str], said: str):
    with pytest.raises(InvalidArgument, match=said):
        tracefile.read(content, "t")


@given(st.lists(st.text(max_size=30)))
def test_any_text_is_a_trace_or_refused(content: list[str]):
    try:
        tracefile.read([tracefile.head_line(HEAD), *(line + "\n" for line in content)], "t")
    except InvalidArgument as error:
        assert "'t'" in str(error)


def test_inputs_that_differ_are_named():
    other = tracefile.head_of(
        engine="f", module="m", seed=7, args=("b",), env={}, stdin=b"secret",
        limits={"fuel": 9, "timeout_ns": 5},
    )  # fmt: skip
    assert list(tracefile.differing(HEAD, other)) == [
        "engine was e, now it is f", "args is not what it was", "env is not what it was",
        "limit fuel was None, now it is 9",
    ]  # fmt: skip
    assert list(tracefile.differing(HEAD, HEAD)) == []


def test_a_difference_shows_both_sides():
    trace = tracefile.Trace(HEAD, [step(1), step(2, kind=5, guest=0)], {"end": "completed"})
    said = tracefile.difference(trace, 2, step(2, fuel=6))
    assert "differs at step 2" in said
    assert "recorded  the clock went on" in said
    assert "replayed  slice of guest 1" in said
    assert "fuel 6" in said
    assert "(the run had ended)" in tracefile.difference(trace, 3, step(3))
    assert "(the run had ended)" in tracefile.difference(trace, 2, None)

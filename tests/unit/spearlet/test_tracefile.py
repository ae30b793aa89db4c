"""Traces: what is written is read again, what is damaged is named, what differs is shown."""

from __future__ import annotations

import io
from collections.abc import Iterable

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


def read(content: Iterable[str]) -> tracefile.Trace:
    return tracefile.read(io.StringIO("".join(content)), "t")


END = tracefile.end_of(2, 9, "completed", b"out")


@given(st.lists(st.tuples(st.integers(1, 5), U64, U64, U64, U64, U64), max_size=20))
def test_what_is_written_is_read_again(rows):
    steps = [Step(number, *row) for number, row in enumerate(rows, 1)]
    end = tracefile.end_of(len(steps), 9, "completed", b"out")
    found = read([*lines(*steps), tracefile.end_line(end)])
    assert (found.head, found.steps, found.end) == (HEAD, steps, end)


def test_inputs_are_only_told_by_their_digests():
    assert "secret" not in tracefile.head_line(HEAD)


def test_a_recording_that_was_cut_off_is_read_up_to_there():
    whole = [*lines(step(1), step(2))]
    found = read([*whole[:-1], whole[-1][:-5]])
    assert (found.steps, found.end) == ([step(1)], None)
    assert read(whole).end is None
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
    ([*lines(), '[1,"dance",1,2,3,"0000000000000000","0000000000000000"]\n'],
     "kind 'dance' is not known: start, slice"),
    ([*lines(), '[1,"slice",1,2,3,"00","0000000000000000"]\n'], "16 hex digits"),
    ([*lines(), '[1,"slice",1,2,"3","0000000000000000","0000000000000000"]\n'], "numbers"),
    ([*lines(), tracefile.end_line(END), "[]\n"], "line 3: nothing may follow"),
    ([*lines(), '{"end":"x"}\n'], "line 2: no end: end, steps, digest, output were expected"),
    ([*lines(), tracefile.end_line(END | {"end": 7})], "line 2: no end"),
    ([*lines(), "[" * 50_000 + "\n"], "line 2: not JSON"),
    ([*lines(), "[" * 70_000 + "\n"], "line 2: longer than the 65536 characters"),
])  # fmt: skip
def test_what_is_no_trace_is_refused_with_its_line(content: list[str], said: str):
    with pytest.raises(InvalidArgument, match=said):
        read(content)


@given(st.lists(st.text(max_size=30)))
def test_any_text_is_a_trace_or_refused(content: list[str]):
    try:
        read([tracefile.head_line(HEAD), *(line + "\n" for line in content)])
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
    newer = HEAD | {"limits": HEAD["limits"] | {"speed": 3}, "shape": 4}
    assert list(tracefile.differing(newer, HEAD)) == [
        "limit speed was 3, now it is None", "shape was 4, now it is None",
    ]  # fmt: skip


def test_ends_are_compared():
    trace = tracefile.Trace(HEAD, [step(1), step(2)], END)
    assert tracefile.end_difference(trace, END) == ""
    assert tracefile.end_difference(trace, END | {"steps": 3, "end": "failed"}) == (
        "the replay differs at the end: end was completed, now it is failed; "
        "steps was 2, now it is 3"
    )
    cut = tracefile.end_difference(tracefile.Trace(HEAD, [step(1)], None), END)
    assert cut.startswith("the recording stops after step 1, where the replay ended")


def test_a_file_without_an_end_is_not_read_for_ever():
    with open("/dev/zero") as file, pytest.raises(InvalidArgument, match="line 1: longer"):
        tracefile.read(file, "t")


def test_a_difference_shows_both_sides():
    trace = tracefile.Trace(HEAD, [step(1), step(2, kind=5, guest=0)], END)
    said = tracefile.difference(trace, 2, step(2, fuel=6))
    assert "differs at step 2" in said
    assert "recorded  the clock went on" in said
    assert "replayed  slice of guest 1" in said
    assert "fuel 6" in said
    assert "(the run had ended)" in tracefile.difference(trace, 3, step(3))
    assert "(the run had ended)" in tracefile.difference(trace, 2, None)

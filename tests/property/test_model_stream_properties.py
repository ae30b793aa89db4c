"""Streams of models: any bytes in any cuts, as the plain reference reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.errors import ModelGarbled
from spear.hostcalls.llm.http.lines import Lines
from spear.hostcalls.llm.http.sse import SseParser
from tests.fuzz.fuzz_model_streams import fuzz
from tests.reference import sse as reference

words = st.sampled_from(
    [b"data: ", b"data:", b"event: e", b":", b"\r", b"\n", b"\r\n", b"\n\n", b"x"]
)
streams = st.lists(words | st.binary(max_size=5), max_size=40).map(b"".join)
cuts = st.lists(st.integers(0, 30), max_size=60)


def parts_of(data: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


@given(streams, cuts)
def test_events_are_those_of_the_reference(stream: bytes, sizes: list[int]) -> None:
    parser = SseParser()
    events = [event for part in parts_of(stream, sizes) for event in parser.feed(part)]
    assert events == reference.events(stream)


@given(streams, cuts)
def test_lines_are_those_of_the_reference(stream: bytes, sizes: list[int]) -> None:
    lines = Lines(any_end=False)
    whole = [line for part in parts_of(stream, sizes) for line in lines.feed(part)]
    assert (whole, lines.rest()) == reference.lines(stream)


@given(st.integers(1, 50), st.integers(1, 50), st.booleans())
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(
    limit: int, step: int, in_one: bool
) -> None:
    for size, fits in ((limit, True), (limit + 1, False)):
        lines = Lines(any_end=True, bytes_max=limit)
        line = b"x" * size
        parts = [line + b"\n"] if in_one else [*parts_of(line, [step] * size), b"\n"]
        if fits:
            assert [found for part in parts for found in lines.feed(part)] == [line]
        else:
            with pytest.raises(ModelGarbled, match="longer than"):
                [lines.feed(part) for part in parts]


def test_the_data_of_an_event_may_be_as_long_as_the_limit_and_no_longer() -> None:
    event = b"data: abcde\n" * 3 + b"\n"  # 17 bytes with what joins the lines
    assert SseParser(bytes_max=17).feed(event) == [(b"", b"abcde\nabcde\nabcde")]
    with pytest.raises(ModelGarbled, match="an event of the answer is longer than 16"):
        SseParser(bytes_max=16).feed(event)


def test_a_whole_event_in_a_chunk_is_held_to_the_same_limit() -> None:
    parser = SseParser(bytes_max=20)
    parser.feed(b": first\n")
    with pytest.raises(ModelGarbled, match="longer than 20"):
        parser.feed(b"data: " + b"x" * 21 + b"\n\n")


def test_the_fuzzer_finds_nothing_in_a_few_hundred_streams() -> None:
    assert fuzz(400, seed=1) > 0

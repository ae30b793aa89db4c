"""Logs are walked as the plain statement of it says, whatever they hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference import logwalk as plain

from spear._core.logwalk import walked

LENGTHS = st.integers(0, 40) | st.integers(0, 0xFFFF) | st.integers(32700, 32768)
HEADS = st.tuples(LENGTHS, st.integers(0, 6) | st.sampled_from([1, 2, 3, 4, 255]))
SEQUENCES = st.integers(0, 9) | st.integers(0, (1 << 64) - 1)
FILL = st.binary(max_size=30) | st.integers(0, 40_000).map(bytes)


@st.composite
def logs(draw: Any) -> bytes:
    """Records and what is none, by turns; some are longer than their block or have lost bytes."""
    data = bytearray()
    for length, kind in draw(st.lists(HEADS, max_size=12)):
        left = plain.BLOCK_BYTES - len(data) % plain.BLOCK_BYTES
        if left < plain.HEAD.size:
            data += bytes(left)
            left = plain.BLOCK_BYTES
        if draw(st.booleans()):
            length = min(length, left - plain.HEAD.size)
        data += b"crc!" + length.to_bytes(2, "little") + bytes((kind,))
        batch = plain.BATCH.pack(draw(SEQUENCES), draw(st.integers(0, 5)))
        there = draw(st.sampled_from([length, length, length, length // 2]))
        data += (batch + b"r" * length)[:there]
    return bytes(data) + draw(FILL)


@given(logs())
@example(b"")
@example(bytes(7))
def test_a_log_is_walked_as_it_is_said(data: bytes):
    assert walked(data) == plain.walked(data)


@given(st.binary(max_size=300))
def test_so_are_bytes_of_no_log(data: bytes):
    assert walked(data) == plain.walked(data)


@given(logs(), st.data())
def test_so_is_each_beginning_of_one(data: bytes, drawn: st.DataObject):
    part = data[: drawn.draw(st.integers(0, len(data)))]
    assert walked(part) == plain.walked(part)


@pytest.mark.parametrize("wrong", [None, "text", 5])
def test_what_has_no_bytes_is_refused(wrong: Any):
    with pytest.raises(TypeError):
        walked(wrong)

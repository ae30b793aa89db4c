"""What reaches a terminal cannot steer it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.cli import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 漢", "plain ünïcode 漢"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\rover", "\\x0dover"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("a\u202eb\u2066c\u2028d", "a\\u202eb\\u2066c\\u2028d"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert terminal.escape(text) == shown


@given(st.text())
def test_nothing_that_steers_is_left(text: str) -> None:
    for character in terminal.escape(text):
        assert character in "\n\t" or not ("\0" <= character < " " or "\x7f" <= character < "\xa0")


def test_all_bytes_are_written_or_the_closed_pipe_is_raised() -> None:
    reader, writer = os.pipe()
    terminal.write(writer, b"bytes")
    assert os.read(reader, 100) == b"bytes"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        terminal.write(writer, b"more")
    os.close(writer)


def test_a_closed_descriptor_is_no_terminal() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    assert not terminal.is_terminal(writer)

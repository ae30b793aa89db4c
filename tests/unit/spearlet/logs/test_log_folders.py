"""Task names as folder names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.spearlet.logs.folders import folder_of

NAMES = st.text(min_size=1, max_size=255).filter(lambda name: "\0" not in name)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("greeter", "greeter"), ("a-b_c.d", "a-b_c.d"), (".", "%2E"), ("..", "%2E."),
     ("a b", "a%20b"), ("~", "%7E"), ("../../etc", "%2E.%2F..%2Fetc"), ("", "%")],
)  # fmt: skip
def test_a_plain_name_is_kept_and_any_other_is_harmless(name: str, folder: str) -> None:
    assert folder_of(name) == folder


@given(NAMES, NAMES)
def test_two_names_are_two_folders_of_plain_characters(name: str, other: str) -> None:
    folder = folder_of(name)
    assert folder.isascii()
    assert folder.isprintable()
    assert len(folder) <= 160
    assert "/" not in folder
    assert folder[0] != "."
    assert (folder == folder_of(other)) == (name == other)


def test_long_names_are_told_apart() -> None:
    assert folder_of("x" * 254 + "a") != folder_of("x" * 254 + "b")

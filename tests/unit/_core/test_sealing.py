"""Rows are sealed as the plain statement of it says, and handed on in their order."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear._core.sealing import put_all, seal
from spear.kv.rows import unseal

CHANGES = st.dictionaries(st.binary(min_size=1, max_size=40), st.none() | st.binary(max_size=600))


def plainly(key: bytes, value: bytes) -> bytes:
    return value + crc32(value, crc32(key)).to_bytes(4, "little")


@given(st.binary(max_size=100), st.binary(max_size=5000))
def test_the_checksum_of_key_and_value_stands_behind_the_value(key: bytes, value: bytes):
    assert seal(key, value) == plainly(key, value)
    assert unseal(key, seal(key, value)) == value


@given(CHANGES)
def test_changes_are_handed_on_sealed_and_in_order(changes: dict[bytes, bytes | None]):
    told: list[tuple[bytes, bytes | None]] = []
    put_all(changes, lambda *row: told.append(row), lambda key: told.append((key, None)))
    assert told == [
        (key, None if value is None else plainly(key, value)) for key, value in changes.items()
    ]


@pytest.mark.parametrize(
    ("key", "value"), [(None, b""), (b"", None), ("", b""), (b"", bytearray())]
)
def test_what_is_not_bytes_is_refused(key: Any, value: Any):
    with pytest.raises(TypeError):
        seal(key, value)


def test_an_error_passes_and_the_rest_is_not_handed_on():
    told: list[bytes] = []

    def put(key: bytes, value: bytes) -> None:
        if told:
            raise KeyError(key)
        told.append(key)

    with pytest.raises(KeyError):
        put_all({b"a": b"1", b"b": b"2", b"c": b"3"}, put, told.append)
    assert told == [b"a"]
    wrong: Any = [(b"a", b"1")]
    with pytest.raises(TypeError):
        put_all(wrong, put, told.append)
    with pytest.raises(TypeError):
        put_all({"a": b"1"}, put, told.append)  # type: ignore[dict-item]

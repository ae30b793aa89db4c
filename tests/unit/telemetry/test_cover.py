"""Secrets are covered in data, in every disguise, at any place, and nothing else is changed."""

from __future__ import annotations

import tracemalloc
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.telemetry.cover import Cover
from spear.telemetry.redact import forms_of

SECRET = 'kd93/"jf+0s%q2'
FORMS = [form.encode() for form in sorted(set(forms_of(SECRET)))]


def whole(cover: Cover, data: bytes) -> bytes:
    return in_parts(cover, data, len(data) or 1)


def in_parts(cover: Cover, data: bytes, size: int) -> bytes:
    covering = cover.over(data)
    for begin in range(0, len(data), size):
        covering.look(begin, min(begin + size, len(data)))
    return covering.value()


def plainly(data: bytes) -> bytes:
    """Each byte that is part of some form is an asterisk."""
    hidden = {
        at + n
        for form in FORMS
        for at in range(len(data) - len(form) + 1)
        if data[at : at + len(form)] == form
        for n in range(len(form))
    }
    return bytes(42 if at in hidden else byte for at, byte in enumerate(data))


pieces = st.one_of(st.sampled_from(FORMS), st.binary(max_size=4), st.just(FORMS[0][:5]))


@given(st.lists(pieces, max_size=8).map(b"".join), st.integers(1, 40))
def test_it_is_as_said_plainly_and_in_parts_as_at_once(data: bytes, size: int) -> None:
    cover = Cover([SECRET])
    assert in_parts(cover, data, size) == whole(cover, data) == plainly(data)


@given(st.integers(0, 40), st.integers(1, 40))
def test_what_overlaps_itself_is_covered_to_its_end(times: int, size: int) -> None:
    cover, data = Cover(["abababab"]), b"." + b"ab" * times + b"."
    hidden = times >= 4
    assert in_parts(cover, data, size) == (b"." + b"*" * 2 * times + b"." if hidden else data)


def test_data_without_a_secret_is_given_back_itself() -> None:
    data = bytes(range(256)) * 4
    covering = Cover([SECRET]).over(data)
    covering.look(0, len(data))
    assert not covering.found
    assert covering.value() is data


@pytest.mark.parametrize("secret", ["abcdefgh", "aaaaaaaa"])
def test_a_secret_all_through_the_data_takes_one_copy_of_it(secret: str) -> None:
    data = secret.encode() * (1 << 15)
    tracemalloc.start()
    try:
        made = whole(Cover([secret]), data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made == b"*" * len(data)
    assert peak_bytes < 1.25 * len(data)


@pytest.mark.parametrize("ahead", range(4))
def test_base64_of_something_longer_shows_nothing_of_it(ahead: int) -> None:
    data = b64encode(bytes(range(ahead)) + SECRET.encode() + b"behind")
    assert b64encode(SECRET.encode())[4:-4] not in whole(Cover([SECRET]), data)


def test_short_values_cannot_be_told_from_what_is_there_by_chance() -> None:
    assert not Cover(["1234567"])
    assert Cover(["12345678"])

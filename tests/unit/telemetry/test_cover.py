"""Secrets are covered in data, in every disguise, at any place, and nothing else is changed."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.telemetry.cover import Cover, covered
from spear.telemetry.redact import forms_of

SECRET = 'kd93/"jf+0s%q2'
FORMS = [form.encode() for form in sorted(set(forms_of(SECRET)))]


def whole(cover: Cover, data: bytes) -> bytes:
    return covered(data, cover.spans(data, 0, len(data)))


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
    spans = []
    for begin in range(0, len(data), size):
        spans += cover.spans(data, begin, min(begin + size, len(data)))
    assert covered(data, spans) == whole(cover, data) == plainly(data)


@pytest.mark.parametrize("ahead", range(4))
def test_base64_of_something_longer_shows_nothing_of_it(ahead: int) -> None:
    data = b64encode(bytes(range(ahead)) + SECRET.encode() + b"behind")
    assert b64encode(SECRET.encode())[4:-4] not in whole(Cover([SECRET]), data)


def test_short_values_cannot_be_told_from_what_is_there_by_chance() -> None:
    assert not Cover(["1234567"])
    assert Cover(["12345678"])

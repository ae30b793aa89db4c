"""Canaries: no form of a known secret gets through."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.telemetry.redact import Redactor, forms_of

CANARY = 'c4na/ry+"s3cret\\ ünd~'
SAFE = st.text("abc xyz.,", max_size=30)


def knowing(**secrets: str) -> Redactor:
    redactor = Redactor()
    for name, value in secrets.items():
        redactor.learn(name, value)
    return redactor


def lower(found: re.Match[str]) -> str:
    return found[0].lower()


def disguises(value: str) -> dict[str, str]:
    data = value.encode()
    return {
        "plain": value,
        "base64": base64.b64encode(data).decode(),
        "base64 without padding": base64.b64encode(data).decode().rstrip("="),
        "base64 for urls": base64.urlsafe_b64encode(data).decode(),
        "hex": data.hex(),
        "HEX": data.hex().upper(),
        "percent": quote(value, safe=""),
        "percent in lower case": re.sub(
            "%..", lambda found: found[0].lower(), quote(value, safe="")
        ),
        "percent but slashes": quote(value),
        "form": quote_plus(value),
        "json": json.dumps(value)[1:-1],
        "json in utf-8": json.dumps(value, ensure_ascii=False)[1:-1],
    }


@pytest.mark.parametrize("form", disguises(CANARY))
def test_each_disguise_is_found_in_text_and_bytes(form: str) -> None:
    hidden = disguises(CANARY)[form]
    redactor = knowing(TOKEN=CANARY)
    assert redactor.text(f"a {hidden} b") == "a [redacted:TOKEN] b"
    assert redactor.data(f"a {hidden} b".encode()) == b"a [redacted:TOKEN] b"
    assert redactor.texts(["x", f"a {hidden} b"]) == ["x", "a [redacted:TOKEN] b"]


@pytest.mark.parametrize("user", ["u", "us", "use", "user"])
def test_a_secret_within_base64_of_more_is_found_at_each_alignment(user: str) -> None:
    header = base64.b64encode(f"{user}:{CANARY}:tail".encode()).decode()
    shown = knowing(PASSWORD=CANARY).text(f"Basic {header}")
    assert "[redacted:PASSWORD]" in shown
    assert base64.b64encode(CANARY.encode()).decode()[4:-4] not in shown


def test_each_long_line_of_a_key_is_a_secret() -> None:
    key = "-----BEGIN-----\n" + "MIIEvQIBADANBgkqhkiG9w0\n" * 2 + "-----END-----"
    assert knowing(KEY=key).text("MIIEvQIBADANBgkqhkiG9w0") == "[redacted:KEY]"


def test_what_overlaps_is_covered_as_a_whole() -> None:
    assert knowing(A="abcdef", B="defghi").text("-abcdefghi-") == "-[redacted:A]-"
    assert knowing(A="aaaa").text("-aaaaaaa-") == "-[redacted:A]-"
    assert knowing(A="token", B="my-token-1").text("my-token-1") == "[redacted:B]"


def test_a_value_that_its_replacement_contains_does_not_grow() -> None:
    words = {f"N{n}": "[redacted:"[n : n + 4] for n in range(7)}
    assert knowing(**words).text("[redacted:") == "[redacted:N0]"


def test_a_secret_is_one_until_forgotten_as_often_as_learned() -> None:
    redactor = Redactor()
    assert not redactor
    redactor.learn("A", "s3cret")
    redactor.learn("A", "s3cret")
    redactor.forget("A", "s3cret")
    assert redactor.text("s3cret") == "[redacted:A]"
    redactor.forget("A", "s3cret")
    redactor.forget("A", "s3cret")
    assert redactor.text("s3cret") == "s3cret"
    assert not redactor


def test_too_short_a_value_is_refused() -> None:
    redactor = Redactor()
    assert redactor.learn("A", "1") is False
    assert redactor.text("1") == "1"


def test_a_name_cannot_bring_in_anything() -> None:
    redactor = Redactor()
    redactor.learn('x"\n\x1b[0m', "s3cret")
    assert redactor.text("s3cret") == "[redacted:x____0m]"


@given(st.text(min_size=4, max_size=40), SAFE, SAFE)
def test_any_secret_is_gone_from_any_text(value: str, ahead: str, behind: str) -> None:
    text = knowing(NAME=value).text(ahead + value + behind)
    assert value not in text.replace("[redacted:NAME]", "\0") or value in "\0"
    assert "[redacted:NAME]" in text


@given(st.text())
def test_other_text_stays(text: str) -> None:
    assert knowing(A="\U0010ffff" * 4).text(text) == text


PARTS = st.sampled_from(
    ("abab1234abab", "abab", "1234", "ab", "a", "x", "YWJhYjEyMzRhYmFi", "6162")
)


@given(st.lists(PARTS, max_size=12).map("".join), st.integers(1, 30))
def test_text_that_is_cut_where_no_secret_begins_shows_none(text: str, size: int) -> None:
    redactor = Redactor()
    redactor.learn("TOKEN", "abab1234abab")
    longest = max(map(len, forms_of("abab1234abab")))
    pieces, ahead, whole = [], "", ""
    for at in range(0, len(text), size):
        piece = ahead + text[at : at + size]
        end, begin = redactor.cut(piece)
        assert begin <= end
        assert len(piece) - begin < 2 * longest
        ahead = piece[begin:]
        pieces.append(piece[:end])
        whole += piece[:begin]
    pieces.append(ahead)
    assert whole + ahead == text
    shown = "".join(map(redactor.text, pieces))
    assert shown.count("[redacted:TOKEN]") >= ("abab1234abab" in text)
    assert not any(form in shown for form in forms_of("abab1234abab"))
    assert _without(shown) == _without(redactor.text(text))


def _without(shown: str) -> str:
    return shown.replace("[redacted:TOKEN]", "")


def test_where_occurrences_overlap_in_a_chain_little_goes_on() -> None:
    redactor = knowing(TOKEN="kabcdefgk")
    for text in ("kabcdefg" * 1000, "kabcdefg" * 1000 + "kab", "." + "kabcdefg" * 3):
        end, begin = redactor.cut(text)
        assert len(text) - begin < 2 * 9
        assert redactor.text(text[:end]).lstrip(".") == "[redacted:TOKEN]"
        assert redactor.text(text[begin:] + "cdefgk").startswith("[redacted:TOKEN]")


def test_what_begins_no_secret_is_left_where_it_is() -> None:
    redactor = Redactor()
    assert redactor.cut("none is known") == (13, 13)
    redactor.learn("TOKEN", "xyzw-98765")
    assert redactor.cut("other words") == (11, 11)
    assert redactor.cut("xyzw-98765") == (10, 10)  # a whole one
    for count in range(1, 10):
        assert redactor.cut("..." + "xyzw-98765"[:count]) == (3, 3)

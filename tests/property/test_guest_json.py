"""spear_json.h in a guest, beside Python's json: any text, any document.

The rule: the reference is `json`; what the header does not promise (a NUL, a lone surrogate) is
said here as it is.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from guest_runs import executor, finish
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60
)  # as a C string holds it
KEYS = st.sampled_from(["a", "key", "content"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def asked() -> Any:
    with executor() as node:

        def ask(document: str, *args: str) -> str | None:
            run, outcome = finish(node, "json", *args, stdin=document.encode())
            assert outcome.cause == "exit", outcome
            assert outcome.exit_code in (0, 1)
            return run.output.decode() if outcome.exit_code == 0 else None

        yield ask


def first(document: Any, key: str) -> Any:
    """The first value of the key, in the order of the text; ... where there is none."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                return value
            found = first(value, key)
            if found is not ...:
                return found
    if isinstance(document, list):
        for value in document:
            if (found := first(value, key)) is not ...:
                return found
    return ...


@given(text=TEXTS)
def test_a_text_is_quoted_as_json(asked: Any, text: str) -> None:
    assert json.loads(asked(text, "quote")) == text


@given(document=VALUES, key=KEYS, ascii=st.booleans(), spaces=st.booleans())
def test_a_value_is_found_by_its_key(
    asked: Any, document: Any, key: str, ascii: bool, spaces: bool
) -> None:
    text = json.dumps(
        document, ensure_ascii=ascii, indent=2 if spaces else None,
        separators=None if spaces else (",", ":"),
    )  # fmt: skip
    value = first(document, key)
    assert asked(text, "text", key) == (value if isinstance(value, str) else None)
    whole = isinstance(value, int) and not isinstance(value, bool)
    assert asked(text, "int", key) == str(value if whole else -1)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (r'{"a":"\ud83d\ude00"}', "\U0001f600"),
        (r'{"a":"\ud83d"}', "\ufffd"),
        (r'{"a":"\ud83d\u0041"}', "\ufffdA"),
        (r'{"a":"\ude00x"}', "\ufffdx"),
        (r'{"a":"\u0000x"}', "\ufffdx"),
        (r'{"a":"\u12', "12"),
        (r'{"a":"cut off', "cut off"),
        ('{"a":"cut off\\', "cut off"),
        (r'{"a" : "\b\f\n\r\t\/\"\\"}', '\b\f\n\r\t/"\\'),
        (r'{"b":"\"a\":\"no\"","a":"yes"}', "yes"),
        (r'{"b":"a","a":"yes"}', "yes"),
        (r'["a","b"]', None),
        (r'{"a":null}', None),
        (r'{"a', None),
        (r'{"a\\', None),
        ("", None),
    ],
)
def test_what_is_odd_or_cut_ends_in_a_text_or_none(
    asked: Any, document: str, text: str | None
) -> None:
    assert asked(document, "text", "a") == text

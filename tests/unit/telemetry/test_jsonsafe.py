"""JSON is escaped without loss."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from spear.telemetry.jsonsafe import escape_json


@given(
    st.text(st.characters(exclude_categories=["Cs"])) | st.text("a\x7f\x80\x9b\x85\u2028\u202e漢")
)
def test_nothing_that_steers_is_left_and_nothing_is_lost(text: str) -> None:
    escaped = escape_json(json.dumps(text, ensure_ascii=False).encode())
    assert json.loads(escaped) == text
    for character in escaped.decode():
        assert not "\0" <= character < " "
        assert not "\x7f" <= character < "\xa0"
        assert character not in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

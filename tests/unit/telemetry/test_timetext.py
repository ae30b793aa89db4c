"""Time as text, against the library's calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spear.telemetry.timetext import parse_time, time_text

END_OF_9999_MS = 253_402_300_800_000


@given(st.integers(0, END_OF_9999_MS - 1))
def test_it_is_what_the_calendar_says_and_is_read_back(ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    text = time_text(ms * 10**6 + 999_999)
    assert text == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert parse_time(text) == ms * 10**6


@pytest.mark.parametrize(
    "text", ["", "x" * 24, "2026-11-03 12:00:00.123Z", "2026-11-03T12:00:00.123", "2026-11-03T1"]
)
def test_other_text_is_no_time(text: str) -> None:
    assert parse_time(text) is None

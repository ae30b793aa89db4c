"""What cron expressions mean, one sentence a test; the properties are in tests/property."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spear.errors import InvalidArgument
from spear.spearlet.schedules.cron import NS_MAX, Cron


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def following(cron: str, begin: str, count: int = 1) -> list[str]:
    parsed, at, found = Cron.parse(cron), ns(begin), []
    for _ in range(count):
        at = parsed.next_after(at)
        found.append(datetime.fromtimestamp(at // 10**9, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "begin", "expected"),
    [
        ("*/15 9-17 * * mon-fri", "2026-01-02T17:45", ["2026-01-05 09:00", "2026-01-05 09:15"]),
        ("@hourly", "2026-01-01T23:00", ["2026-01-02 00:00", "2026-01-02 01:00"]),
        ("@Daily ", "2026-12-31T00:00", ["2027-01-01 00:00"]),
        ("@weekly", "2026-01-01", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("@monthly", "2026-01-31", ["2026-02-01 00:00"]),
        ("@yearly", "2026-01-01", ["2027-01-01 00:00"]),
        ("0 0 29 2 *", "2096-03-01", ["2104-02-29 00:00"]),
        ("0 0 31 * *", "2026-01-31", ["2026-03-31 00:00", "2026-05-31 00:00"]),
        ("0 0 29 FEB */7", "2004-03-01", ["2032-02-29 00:00"]),  # a Sunday: once in 28 years
        ("30 4 1,15 * 5", "2026-01-01T05:00", ["2026-01-02 04:30", "2026-01-09 04:30"]),
        ("0 0 */10 * 1", "2026-01-01", ["2026-05-11 00:00"]),  # a star: both must say so
        ("0 0 * * 7", "2026-01-01", ["2026-01-04 00:00"]),
        ("0 0 * * fri-sun", "2026-01-01", ["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("0 0 * * 5/1", "2026-01-01", ["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("50/5 0 1 1 *", "2026-06-01", ["2027-01-01 00:50", "2027-01-01 00:55"]),
    ],
)
def test_due_times(cron: str, begin: str, expected: list[str]) -> None:
    assert following(cron, begin, len(expected)) == expected


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6,9,11 *"])
def test_a_date_there_is_not_never_comes(cron: str) -> None:
    assert Cron.parse(cron).next_after(0) == 0
    assert Cron.parse(cron).count(0, NS_MAX) == 0


def test_nothing_is_due_beyond_the_last_time_that_can_be_written() -> None:
    cron = Cron.parse("* * * * *")
    last = cron.next_after(NS_MAX - 60 * 10**9)
    assert 0 < last <= NS_MAX
    assert cron.next_after(last) == 0


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("60 * * * *", r"cron '60 \* \* \* \*': minute: found '60'; accepted are 0 to 59"),
        ("* 24 * * *", "hour: found '24'"),
        ("* * 0 * *", "day of the month: found '0'; accepted are 1 to 31"),
        ("* * * 13 *", "month: found '13'; accepted are 1 to 12 or jan/feb"),
        ("* * * * 8", "day of the week: found '8'; accepted are 0 to 7 or sun/mon"),
        ("* * * * fun", "day of the week: found 'fun'"),
        ("5-1 * * * *", "minute: found '5-1', which ends before it begins"),
        ("*/0 * * * *", "minute: found the step '0'"),
        ("1//2 * * * *", "minute: found the step '/2'"),
        ("1,,2 * * * *", "minute: found ''"),
        ("-1 * * * *", "minute: found ''"),
        ("*-5 * * * *", r"minute: found '\*'"),
        ("٣ * * * *", "minute: found '٣'"),
        ("* * * *", r"expected five fields .* or one of @hourly"),
        ("@reboot", "expected five fields"),
        ("", "expected five fields"),
        ("* " * 200, "in at most 256 characters"),
    ],
)
def test_an_error_names_the_field_what_was_found_and_what_is_accepted(cron, sentence) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        Cron.parse(cron)


def test_due_times_are_counted_and_found_by_number_across_days() -> None:
    cron, begin = Cron.parse("0 */6 * * *"), ns("2026-01-01T01:00")
    assert cron.nth(begin, 5) == ns("2026-01-02T12:00")
    assert cron.count(begin, ns("2026-01-02T12:00")) == 6
    assert cron.count(ns("2026-01-01T06:00"), ns("2026-01-01T06:00")) == 1
    assert cron.count(begin, ns("2026-01-01T05:59")) == 0

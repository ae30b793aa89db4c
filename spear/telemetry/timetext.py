"""Unix time as text for people and machines: `2026-11-03T12:00:00.123Z`.

The rule: UTC, milliseconds, always 24 characters for the years 1970 to 9999; pure arithmetic.
"""

from __future__ import annotations

_DAYS_OF_400_YEARS = 146_097
_DAYS_TO_1970 = 719_468  # from 0000-03-01, where the count of days begins


def time_text(ns: int) -> str:
    seconds, rest_ns = divmod(ns, 10**9)
    days, second = divmod(seconds, 86_400)
    year, month, day = _date(days)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{rest_ns // 10**6:03}"
    return f"{year:04}-{month:02}-{day:02}T{clock}Z"


def parse_time(text: str) -> int | None:
    """Nanoseconds of what `time_text` gave, to its milliseconds; None for any other text."""
    marks = text[4:5] + text[7:8] + text[10:11] + text[13:14] + text[16:17] + text[19:20]
    digits = text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]
    if len(text) != 24 or marks + text[23] != "--T::.Z" or not (digits + text[20:23]).isdecimal():
        return None
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    return (_days(year, month, day) * 86_400 + seconds) * 10**9 + int(text[20:23]) * 10**6


def _date(days: int) -> tuple[int, int, int]:
    """Year, month, day of a count of days since 1970. Years begin in March here, so that the leap
    day is their last."""
    era, of_era = divmod(days + _DAYS_TO_1970, _DAYS_OF_400_YEARS)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    return era * 400 + year + (month >= 10), month + 3 if month < 10 else month - 9, day


def _days(year: int, month: int, day: int) -> int:
    era, of_era = divmod(year - (month <= 2), 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = of_era * 365 + of_era // 4 - of_era // 100 + of_year
    return era * _DAYS_OF_400_YEARS + days - _DAYS_TO_1970

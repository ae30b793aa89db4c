"""Cron expressions: the minutes, in UTC, at which something is due.

The rule: integers only, nothing is asked of the machine. Five fields (minute, hour, day of the
month, month, day of the week) of lists, ranges and steps, months and days also by name; or a word
such as `@daily`. A day is due if both its fields say so; if neither of the two begins with `*`, one
of them suffices. The calendar repeats after 400 years, so a date that is not met by then never is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from spear.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_NS = 60 * 10**9
NS_MAX = (1 << 63) - 1  # in the year 2262; nothing is due later
_DAY_MINUTES = 1440
_TEXT_MAX = 256
_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_WEEKDAYS = "sun mon tue wed thu fri sat"
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EPOCH_DAY = 719_162  # 1970-01-01, counted from 0001-01-01
_CYCLE_MONTHS = 4_800


class _Field:
    """One of the five: its name, its numbers, their names. `top` is the last number that `*` means;
    one above it stands for the first again (7 is Sunday, as 0 is)."""

    def __init__(self, name: str, low: int, high: int, names: str = "", top: int = 0) -> None:
        self.name, self.low, self.high, self.top = name, low, high, top or high
        self.names = {word: low + number for number, word in enumerate(names.split())}

    def parse(self, text: str) -> frozenset[int]:
        values = {value for item in text.split(",") for value in self._item(item)}
        return frozenset(self.low if value > self.top else value for value in values)

    def _item(self, item: str) -> range:
        span, slash, step = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            low, high = self.low, self.top
        else:
            low = self._value(first)
            high = self._value(last) if dash else max(low, self.top) if slash else low
        if high == self.low < low and self.top < self.high:
            high = self.high  # fri-sun
        if high < low:
            raise self._error(f"{item!r}, which ends before it begins")
        return range(low, high + 1, self._step(step) if slash else 1)

    def _value(self, text: str) -> int:
        value = int(text) if _number(text) else self.names.get(text.lower(), -1)
        if not self.low <= value <= self.high:
            raise self._error(repr(text))
        return value

    def _step(self, text: str) -> int:
        if not _number(text) or int(text) == 0:
            raise self._error(f"the step {text!r}, which is no number from 1 on")
        return int(text)

    def _error(self, found: str) -> InvalidArgument:
        names = f" or {'/'.join(self.names)}" if self.names else ""
        return InvalidArgument(
            f"{self.name}: found {found}; accepted are {self.low} to {self.high}{names}, "
            "ranges a-b, steps */n and a-b/n, lists a,b and *"
        )


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _WEEKDAYS, top=6),
)


class Cron:
    """A parsed expression. Times are Unix nanoseconds from 0 to NS_MAX."""

    __slots__ = ("_days", "_either", "_minutes", "_months", "_weekdays", "text")

    def __init__(self, text: str, fields: list[str]) -> None:
        self.text = text
        found = [field.parse(part) for field, part in zip(_FIELDS, fields, strict=True)]
        minutes, hours, self._days, self._months, self._weekdays = found
        self._either = not (fields[2].startswith("*") or fields[4].startswith("*"))
        self._minutes = sorted(hour * 60 + minute for hour in hours for minute in minutes)

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Raises InvalidArgument naming the field, what was found and what is accepted."""
        shown = repr(text) if len(text) <= _TEXT_MAX else f"{text[:40]!r}..."
        fields = _WORDS.get(text.strip().lower(), text).split()
        if len(text) > _TEXT_MAX or len(fields) != len(_FIELDS):
            raise InvalidArgument(
                f"cron {shown}: expected five fields (minute, hour, day of the month, month, day "
                f"of the week) in at most {_TEXT_MAX} characters, or one of {', '.join(_WORDS)}"
            )
        try:
            return cls(text, fields)
        except InvalidArgument as error:
            raise InvalidArgument(f"cron {shown}: {error}") from None

    def next_after(self, ns: int) -> int:
        """The first due time after `ns`, 0: there is none."""
        return self.nth(ns + 1, 0)

    def nth(self, from_ns: int, index: int) -> int:
        """The due time number `index` (from 0) at or after `from_ns`, 0: there are not so many."""
        first_day, minute = divmod(-(-from_ns // MINUTE_NS), _DAY_MINUTES)
        skipped = bisect_left(self._minutes, minute)
        for day in self._due_days(first_day):
            at = index + (skipped if day == first_day else 0)
            if at < len(self._minutes):
                found = (day * _DAY_MINUTES + self._minutes[at]) * MINUTE_NS
                return found if found <= NS_MAX else 0
            index = at - len(self._minutes)
        return 0

    def count(self, from_ns: int, to_ns: int) -> int:
        """How many due times lie from `from_ns` to `to_ns`, both included. Costs under a
        microsecond a day."""
        first_day, first_minute = divmod(-(-from_ns // MINUTE_NS), _DAY_MINUTES)
        last_day, last_minute = divmod(to_ns // MINUTE_NS, _DAY_MINUTES)
        found = 0
        for day in self._due_days(first_day):
            if day > last_day:
                break
            found += len(self._minutes)
            if day == first_day:
                found -= bisect_left(self._minutes, first_minute)
            if day == last_day:
                found -= len(self._minutes) - bisect_right(self._minutes, last_minute)
        return max(found, 0)

    def _due_days(self, day: int) -> Iterator[int]:
        """The days (0: 1970-01-01) on which something is due, from `day` on; ends after 400 years
        without one."""
        year, month, day_of_month = civil(day)
        day -= day_of_month - 1  # from here on the month's first
        empty = 0
        while empty <= _CYCLE_MONTHS:
            length = month_days(year, month)
            if month in self._months:
                for number in range(day_of_month, length + 1):
                    if self._is_due(number, (day + number + 3) % 7):
                        empty = 0
                        yield day + number - 1
            day, day_of_month, empty = day + length, 1, empty + 1
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)

    def _is_due(self, day_of_month: int, weekday: int) -> bool:
        by_day, by_weekday = day_of_month in self._days, weekday in self._weekdays
        return by_day or by_weekday if self._either else by_day and by_weekday


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_days(year: int, month: int) -> int:
    return 29 if month == 2 and _leap(year) else _MONTH_DAYS[month - 1]


def _days_before(year: int) -> int:
    """Days from 0001-01-01 to the first of January of `year`, in the Gregorian calendar."""
    past = year - 1
    return past * 365 + past // 4 - past // 100 + past // 400


def civil(day: int) -> tuple[int, int, int]:
    """Year, month and day of the month of a day, 0: 1970-01-01."""
    day += _EPOCH_DAY
    year = day * 400 // 146_097 + 1  # at most one too many or too few
    year += (_days_before(year + 1) <= day) - (_days_before(year) > day)
    day, month = day - _days_before(year), 1
    while day >= month_days(year, month):
        day, month = day - month_days(year, month), month + 1
    return year, month, day + 1

"""Cron in plain Python: one minute after the other is looked at, by the library's calendar.

Rule: short enough to be seen right; the oracle of the property tests. A field is given as what it
was made from, so that nothing is parsed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MINUTE_NS = 60 * 10**9
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NAMES = ({}, {}, {}, dict(enumerate(MONTHS, 1)), dict(enumerate(WEEKDAYS)))


@dataclass(frozen=True)
class Item:
    """`low` None: a star; `high` None: one number, or, with a step, up to the last."""

    low: int | None = None
    high: int | None = None
    step: int | None = None

    def text(self, field: int, named: bool) -> str:
        names = NAMES[field] if named else {}
        text = "*" if self.low is None else names.get(self.low, str(self.low))
        if self.high is not None:
            text += f"-{names.get(self.high, str(self.high))}"
        return text if self.step is None else f"{text}/{self.step}"

    def values(self, field: int) -> set[int]:
        first, last = RANGES[field]
        low = first if self.low is None else self.low
        high = self.high
        if high is None:
            high = last if self.low is None or self.step is not None else low
        found = set(range(low, max(high, low) + 1, self.step or 1))
        return {0 if field == 4 and value == 7 else value for value in found}


class Cron:
    def __init__(self, fields: list[list[Item]]) -> None:
        self.fields = [
            {value for item in items for value in item.values(field)}
            for field, items in enumerate(fields)
        ]
        self.stars = [items[0].low is None for items in fields]

    def due(self, moment: datetime) -> bool:
        found = (
            moment.minute, moment.hour, moment.day, moment.month, moment.isoweekday() % 7,
        )  # fmt: skip
        minute, hour, day, month, weekday = (
            value in accepted for value, accepted in zip(found, self.fields, strict=True)
        )
        both = day and weekday if self.stars[2] or self.stars[4] else day or weekday
        return minute and hour and month and both

    def after(self, ns: int, minutes: int) -> list[int]:
        """All due times after `ns`, within so many minutes."""
        start = ns // MINUTE_NS + 1
        moments = (start + number for number in range(minutes))
        return [m * MINUTE_NS for m in moments if self.due(datetime.fromtimestamp(m * 60, UTC))]

    def day_after(self, ns: int, years: int) -> int:
        """The first due time after `ns` where only one minute of a day is due; 0: not in so many
        years."""
        (minute,), (hour,) = self.fields[0], self.fields[1]
        moment = datetime.fromtimestamp(ns // 10**9, UTC).replace(
            minute=minute, hour=hour, second=0
        )
        for _ in range(years * 366):
            found = int(moment.timestamp()) * 10**9
            if found > ns and self.due(moment):
                return found
            moment += timedelta(days=1)
        return 0

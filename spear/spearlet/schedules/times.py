"""When a schedule is due: by cron, by interval, or once; three kinds with the same questions.

The rule: due times are fixed by the schedule's spec and its creation alone, whatever the clock does
meanwhile. All numbers are Unix nanoseconds, 0: never.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from spear.spearlet.schedules.cron import NS_MAX, Cron

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.records.schedule import ScheduleSpec


class Times(Protocol):
    def next_after(self, ns: int) -> int:
        """The first due time after `ns`."""

    def nth(self, from_ns: int, index: int) -> int:
        """The due time number `index`, from 0, at or after the due time `from_ns`."""

    def count(self, from_ns: int, to_ns: int) -> int:
        """How many there are from the due time `from_ns` to `to_ns`, both included."""


class Every:
    """The first an interval after the begin, and so on."""

    def __init__(self, begin_ns: int, every_ns: int) -> None:
        self._begin_ns, self._every_ns = begin_ns, every_ns

    def next_after(self, ns: int) -> int:
        past = max(0, (ns - self._begin_ns) // self._every_ns)
        found = self._begin_ns + (past + 1) * self._every_ns
        return found if found <= NS_MAX else 0

    def nth(self, from_ns: int, index: int) -> int:
        return from_ns + index * self._every_ns

    def count(self, from_ns: int, to_ns: int) -> int:
        return max(0, (to_ns - from_ns) // self._every_ns + 1)


class Once:
    def __init__(self, at_ns: int) -> None:
        self._at_ns = at_ns

    def next_after(self, ns: int) -> int:
        return self._at_ns if ns < self._at_ns else 0

    def nth(self, from_ns: int, index: int) -> int:
        return self._at_ns

    def count(self, from_ns: int, to_ns: int) -> int:
        return int(from_ns <= self._at_ns <= to_ns)


def times_of(spec: ScheduleSpec, created_ns: int) -> Times:
    """Raises InvalidArgument for a cron expression that is none."""
    if spec.cron:
        return _cron(spec.cron)
    return Every(created_ns, spec.every_ns) if spec.every_ns else Once(spec.at_ns)


@lru_cache(maxsize=1024)
def _cron(text: str) -> Cron:
    return Cron.parse(text)

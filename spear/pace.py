"""Whether something has been so quick of late that it is done in place.

The rule: a hop to a thread and back costs more than what is quick. In place it is done only while
all of the last ones were quick, and not again for long after one that was not, which held up the
loop once.
"""

from __future__ import annotations

_TRUSTED_AFTER = 16  # quick ones in a row
_PENALTY = 200  # more of them, after one that was not


class Pace:
    """Of one thing that is done over and over; up to `quick_ns` is quick."""

    __slots__ = ("_wanted", "quick", "quick_ns")

    def __init__(self, quick_ns: int) -> None:
        self.quick_ns, self._wanted = quick_ns, _TRUSTED_AFTER
        self.quick = False  # whether it may be done in place

    def took(self, ns: int) -> None:
        """It was done once more."""
        if ns > self.quick_ns:
            self._wanted, self.quick = _PENALTY, False
        elif self._wanted:
            self._wanted -= 1
            self.quick = not self._wanted

"""Whether something has been so quick of late that it is done in place.

The rule: a hop to a thread and back costs more than what is quick. In place it is done only while
it is trusted. Trust is earned: each that was quick adds to it, one that was not (which held up the
loop) takes as much as very many add. So one in very many is borne, as a rule the machine had
something else to do meanwhile; the second ends it for long.
"""

from __future__ import annotations

_ENOUGH = 16  # quick ones in a row, at first
_COST = 200  # as many quick ones, of one that was not
_MOST = _ENOUGH + _COST  # so that one is borne


class Pace:
    """Of one thing that is done over and over; up to `quick_ns` is quick."""

    __slots__ = ("_trust", "quick", "quick_ns")

    def __init__(self, quick_ns: int) -> None:
        self.quick_ns, self._trust = quick_ns, 0
        self.quick = False  # whether it may be done in place

    def took(self, ns: int) -> None:
        """It was done once more."""
        if ns > self.quick_ns:
            self._trust = max(self._trust, _ENOUGH) - _COST
            self.quick = self._trust >= _ENOUGH
        elif self._trust < _MOST:
            self._trust += 1
            self.quick = self._trust >= _ENOUGH

    def held_up(self, ns: int) -> None:
        """It was begun in place, which took so long, and is not done: its end may be far off, and
        others would hold up the loop until then."""
        if ns > self.quick_ns:
            self.took(ns)

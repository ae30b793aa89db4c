"""The policy of schedules in plain Python: a list of due times, looked through each time.

Rule: short enough to be seen right; the oracle of the property tests.
"""

from __future__ import annotations

ON_TIME_S, ALL_MAX = 5, 1_000
S = 10**9


class Schedule:
    """`due` are all its due times, in order."""

    def __init__(self, due: list[int], missed: str, overlap: bool) -> None:
        self.due, self.missed, self.overlap = due, missed, overlap
        self.ran: list[int] = []
        self.given_up: list[int] = []

    def choose(self, now_ns: int, busy: bool) -> int:
        """The due time to run now, 0: none."""
        if busy and not self.overlap:
            return 0
        open_ = [d for d in self.due if d <= now_ns and d not in {*self.ran, *self.given_up}]
        if not open_:
            return 0
        if self.missed == "all":
            chosen = open_[-ALL_MAX:][0]
        elif self.missed == "skip" and now_ns - open_[-1] > ON_TIME_S * S:
            chosen = 0
        else:
            chosen = open_[-1]
        self.given_up += [d for d in open_ if d < chosen or not chosen]
        self.ran += [chosen] if chosen else []
        return chosen

"""Which backend is asked next for one request, and after what wait.

The rule: pure; time, chance and each backend's state are given. Every candidate is tried once,
without a wait where one is ready; only then are there `retries` more tries in all, each after a
wait: evenly drawn up to a bound that doubles (full jitter), and not before the backend said that it
may be asked again. A try that could not begin before the deadline is not planned, and after the
first one none that has less than AGAIN_NS_MIN: it would only hide why the one before failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from spear.hostcalls.llm.choice.routing import Draw

CANDIDATES_MAX = 8  # of one request
BACKOFF_NS, BACKOFF_NS_MAX = 200 * 10**6, 10 * 10**9
AGAIN_NS_MIN = 20 * 10**6


class Step(NamedTuple):
    """Ask `name` after `wait_ns`."""

    name: str
    wait_ns: int


class Tries:
    """Of one request over `names`, the best first. `ready_ns(name)`: when it may be asked;
    `idle(name)`: whether it would begin at once."""

    def __init__(
        self, names: Sequence[str], retries: int, draw: Draw, ready_ns: Callable[[str], int],
        idle: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._order = list(names[:CANDIDATES_MAX])
        self._untried = list(self._order)
        self._retries, self._draw = retries, draw
        self._ready_ns, self._idle = ready_ns, idle
        self._waits = 0
        self._least_ns = 1  # that the next try must have
        self.late = False  # time is what the next one lacks, and not somebody to ask

    def next(self, now_ns: int, deadline_ns: int) -> Step | None:
        """None: there is no further try. A step that is given counts as taken."""
        latest_ns = deadline_ns - self._least_ns
        open_to = self._order if self._retries else self._untried
        if now_ns > latest_ns:
            self.late = bool(open_to)
            return None
        name = self._ready_one(now_ns)
        if name is None:
            step = self._later(open_to, now_ns, latest_ns)
            self.late = step is None and bool(open_to)
        else:
            self._untried.remove(name)
            step = Step(name, 0)
        if step is not None:
            self._least_ns = AGAIN_NS_MIN
        return step

    def exclude(self, name: str) -> None:
        """It is not tried again for this request."""
        self._order.remove(name)

    def first_ready_ns(self) -> int:
        """When the first of them may be asked."""
        return min(map(self._ready_ns, self._order), default=0)

    def _ready_one(self, now_ns: int) -> str | None:
        """Not tried yet: the first that would begin at once, else the first that may be asked."""
        found = None
        for name in self._untried:
            if self._ready_ns(name) <= now_ns:
                if self._idle(name):
                    return name
                found = found or name
        return found

    def _later(self, open_to: Sequence[str], now_ns: int, latest_ns: int) -> Step | None:
        if not open_to:
            return None
        name = min(open_to, key=lambda name: max(now_ns, self._ready_ns(name)))
        wait_ns = max(0, self._ready_ns(name) - now_ns)
        if name not in self._untried:
            bound_ns = min(BACKOFF_NS << self._waits, BACKOFF_NS_MAX)
            wait_ns = max(wait_ns, self._draw(bound_ns + 1))
        if now_ns + wait_ns > latest_ns:
            return None
        if name in self._untried:
            self._untried.remove(name)
        else:
            self._retries -= 1
            self._waits += 1
        return Step(name, wait_ns)

"""How old what has ended is, where the wall clock may be set while the node runs or is away.

The rule: a row is never older than the time that passed while a node kept it. Records have wall
times alone, so the time by which the clock was set forward, and the time from the newest record to
the start of this process (it may have been set meanwhile), do not count for what ended before; that
counts as ended at the jump at the latest.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock

_JUMP_NS = 60 * 10**9  # between two looks; a clock that is adjusted in steps goes uncorrected


class Ages:
    """Of one node. `found` once at start, `now_ns` at each round, then `counted_ns`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now_ns, self._monotonic_ns = clock.now_ns(), clock.monotonic_ns()
        self._jump_ns = self._skipped_ns = 0  # when it was set last, and by how much in all

    def found(self, newest_ns: int) -> None:
        """An earlier process left rows, the newest of that time."""
        if 0 < newest_ns < self._now_ns:
            self._jump_ns, self._skipped_ns = self._now_ns, self._now_ns - newest_ns

    def now_ns(self) -> int:
        """The wall time; notices whether it was set since the last look."""
        now_ns, monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        ahead_ns = (now_ns - self._now_ns) - (monotonic_ns - self._monotonic_ns)
        self._now_ns, self._monotonic_ns = now_ns, monotonic_ns
        if ahead_ns > _JUMP_NS:
            self._jump_ns, self._skipped_ns = now_ns, self._skipped_ns + ahead_ns
        elif ahead_ns < -_JUMP_NS:  # a jump ahead may be taken back: then its times are to come
            self._jump_ns = self._skipped_ns = 0
        return now_ns

    def counted_ns(self, time_ns: int) -> int:
        """From when on the age of a row of that time counts; in the order of the times."""
        if time_ns >= self._jump_ns:
            return time_ns
        return min(time_ns + self._skipped_ns, self._jump_ns)

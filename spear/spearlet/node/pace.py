"""Whether a task's guests are so quick that the loop runs their first slice itself.

The rule: a hop to a worker and back costs more than such a guest. It is done only while all of the
last runs were quick, and not again for long after one that was not, which held up the loop for at
most one slice of the executor.
"""

from __future__ import annotations

_QUICK_NS = 200_000
_TRUSTED_AFTER = 16  # quick runs in a row
_PENALTY = 200  # more of them, after one that was not


class Pace:
    """Of one plan."""

    __slots__ = ("_wanted",)

    def __init__(self) -> None:
        self._wanted = _TRUSTED_AFTER

    @property
    def quick(self) -> bool:
        return self._wanted == 0

    def ran(self, cpu_ns: int) -> None:
        """An attempt has ended."""
        if cpu_ns > _QUICK_NS:
            self._wanted = _PENALTY
        elif self._wanted:
            self._wanted -= 1

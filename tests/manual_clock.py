"""A clock that moves only when told, with random bytes that repeat from run to run."""

from __future__ import annotations

from random import Random

from spear.clock import Clock


class ManualClock(Clock):
    def __init__(self, now_ns: int = 1_700_000_000_000_000_000, seed: int = 1) -> None:
        self.time_ns, self.ahead_ns = now_ns, 0
        self._random = Random(seed)

    def advance(self, ns: int) -> None:
        self.time_ns += ns

    def set_by(self, ns: int) -> None:
        """Somebody sets the wall clock; no time passes."""
        self.ahead_ns += ns

    def now_ns(self) -> int:
        return self.time_ns + self.ahead_ns

    def monotonic_ns(self) -> int:
        return self.time_ns

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def host_name(self) -> str:
        return "test-host"

"""How many requests a backend is asked at once and a minute; who comes later waits, in order.

The rule: a slot that was taken is given back, whatever becomes of its request: one whose caller
goes while it waits leaves nothing behind. A turn of the minute is taken as it comes and never
before, so one that is given up is the next one's. Nobody waits for a turn after its deadline.
On one event loop at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque

from spear.errors import ModelUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.clock import Clock

WAITING_MAX = 1000  # requests that wait for one backend; more are refused
_MINUTE_NS = 60 * 10**9
_BURST_PART = 10  # a tenth of a minute's requests may come at once


class Rate:
    """A token bucket, kept as the time at which it is full again. Pure; 0 a minute is no limit."""

    __slots__ = ("_full_ns", "_room_ns", "_step_ns", "free")

    def __init__(self, per_minute: int) -> None:
        self._step_ns = -(-_MINUTE_NS // per_minute) if per_minute else 0
        self._room_ns = self._step_ns * (max(1, per_minute // _BURST_PART) - 1)
        self._full_ns = 0
        self.free = per_minute == 0  # every turn is at once

    def turn_ns(self, now_ns: int, ahead: int = 0) -> int:
        """When a request may begin that has so many `ahead` of it, which wait for their turns."""
        return max(now_ns, self._full_ns + ahead * self._step_ns - self._room_ns)

    def take(self, turn_ns: int) -> None:
        """The turn that has come."""
        self._full_ns = max(self._full_ns, turn_ns) + self._step_ns


class Gate:
    """Before one backend. `enter` gives a slot, which `leave` gives back; `busy` counts them."""

    __slots__ = (
        "_clock", "_concurrency", "_in_line", "_line", "_name", "_rate", "_waiting", "busy",
    )  # fmt: skip

    def __init__(self, name: str, concurrency: int, per_minute: int, clock: Clock) -> None:
        self._name, self._concurrency, self._clock = name, concurrency, clock
        self._rate = Rate(per_minute)
        self._line, self._in_line = asyncio.Lock(), 0  # who holds it has the next turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.busy = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def open(self) -> bool:
        """Whether a request would not wait."""
        if self._waiting or (self._concurrency and self.busy >= self._concurrency):
            return False
        if self._rate.free:
            return True
        now_ns = self._clock.monotonic_ns()
        return self._rate.turn_ns(now_ns, self._in_line) <= now_ns

    def enter_at_once(self) -> bool:
        """Takes a slot where nothing is to be waited for; whether it did."""
        if self._in_line or not self.open():
            return False
        self.busy += 1
        if not self._rate.free:
            self._rate.take(self._clock.monotonic_ns())
        return True

    async def enter(self, deadline_ns: int) -> None:
        """Raises ModelUnavailable where too many wait, or the turn would come too late. Who waits
        for a slot is cut off by its caller at the deadline."""
        await self._slot()
        try:
            await self._turn(deadline_ns)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """The slot goes to who waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)  # busy stays: the slot changes hands
                return
        self.busy -= 1

    async def _slot(self) -> None:
        if not self._concurrency or (self.busy < self._concurrency and not self._waiting):
            self.busy += 1
            return
        if len(self._waiting) >= WAITING_MAX:
            raise ModelUnavailable(
                f"backend {self._name!r} has {self.busy} requests under way and {WAITING_MAX} that "
                "wait, the most it takes",
                backend=self._name,
            )
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # the slot came in the same moment
                self.leave()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    async def _turn(self, deadline_ns: int) -> None:
        now_ns = self._clock.monotonic_ns()
        turn_ns = self._rate.turn_ns(now_ns, self._in_line)
        if deadline_ns and turn_ns > deadline_ns:
            raise ModelUnavailable(
                f"backend {self._name!r} has its requests of this minute: the next one would begin "
                f"in {(turn_ns - now_ns) // 10**6} ms, after the deadline",
                backend=self._name,
                retry_after_ms=-(-(turn_ns - now_ns) // 10**6),
            )
        if turn_ns <= now_ns and not self._in_line:
            self._rate.take(now_ns)
            return
        if not self._in_line:
            self._line = asyncio.Lock()  # one remembers its event loop, which may be another by now
        self._in_line += 1
        try:
            async with self._line:
                await self._next_turn()
        finally:
            self._in_line -= 1

    async def _next_turn(self) -> None:
        now_ns = self._clock.monotonic_ns()
        turn_ns = self._rate.turn_ns(now_ns)
        await asyncio.sleep((turn_ns - now_ns) / 1e9)
        self._rate.take(turn_ns)

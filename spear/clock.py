"""Time, randomness and ids; the only place that asks the machine for them.

The rule: whoever needs one of these gets a Clock by constructor, so that tests and the simulation
can pass another. Monotonic time measures, wall time only labels.
"""

from __future__ import annotations

import os
import time

_COUNTER_MAX = 0xFFF
_DRAWN = 64  # ids whose random digits are drawn at once
_DIGITS = 20  # hexadecimal, of one id
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # RFC 9562


class Clock:
    """The machine's clocks, random source and name."""

    def now_ns(self) -> int:
        """Unix time; may jump."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Grows; its zero means nothing."""
        return time.monotonic_ns()

    def random_bytes(self, count: int) -> bytes:
        """Unpredictable bytes, fit for tokens."""
        return os.urandom(count)

    def host_name(self) -> str:
        return os.uname().nodename


class SeededClock(Clock):
    """A wall clock that stands at the begin of every deterministic world, 2020-01-01, and
    randomness from a seed, so that records are the same each time. It keeps no secrets."""

    def __init__(self, seed: int) -> None:
        self._seed, self._asked = seed, 0

    def now_ns(self) -> int:
        return 1_577_836_800 * 10**9

    def random_bytes(self, count: int) -> bytes:
        import hashlib

        self._asked += 1
        return hashlib.shake_128(f"{self._seed} {self._asked}".encode()).digest(count)


def unix_ns_of(text: str) -> int:
    """Of `2026-11-27T12:31`, `2026-11-27 12:31:10Z` or one with an offset; UTC where it names
    none. Raises ValueError."""
    from datetime import UTC, datetime

    found = datetime.fromisoformat(text)
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    whole = found.replace(microsecond=0)
    return int(whole.timestamp()) * 10**9 + found.microsecond * 1000


class Ids:
    """Makes ids that sort by the time they were made: UUID version 7 (RFC 9562).

    48 bits of Unix milliseconds, a 12-bit counter that starts at random below half each
    millisecond, 62 random bits; in lower-case hex with dashes, 36 characters. Within one Ids the
    text order is the order of making, also when the wall clock stands still or steps back. Two
    threads may get one counter; the random bits keep their ids apart.
    """

    __slots__ = ("_clock", "_drawn", "_last")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = (0, 0, "")  # millisecond, counter, the text of the millisecond
        self._drawn: list[tuple[int, str]] = []

    def next(self, now_ns: int = 0) -> str:
        """`now_ns` is the time, where it is at hand."""
        try:
            fresh, tail = self._drawn.pop()  # in one step, whatever other threads do
        except IndexError:
            fresh, tail = self._draw()
        ms, (last_ms, counter, head) = (now_ns or self._clock.now_ns()) // 1_000_000, self._last
        if ms > last_ms or counter == _COUNTER_MAX:  # which stands in the next one, then
            ms, counter = max(ms, last_ms + 1), fresh
            text = f"{ms:012x}"
            head = f"{text[:8]}-{text[8:]}-7"
        else:
            ms, counter = last_ms, counter + 1
        self._last = ms, counter, head
        return f"{head}{counter:03x}{tail}"

    def _draw(self) -> tuple[int, str]:
        """Where a counter may begin, and the end of an id, which no other has; drawn for many ids
        at once, as asking costs a system call."""
        digits = self._clock.random_bytes(_DRAWN * _DIGITS // 2).hex()
        first, *others = [
            _parted(digits[at : at + _DIGITS]) for at in range(0, len(digits), _DIGITS)
        ]
        self._drawn += others
        return first


def _parted(digits: str) -> tuple[int, str]:
    tail = f"-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"
    return int(digits[:3], 16) >> 1, tail

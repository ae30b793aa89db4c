"""What this process holds: threads and descriptors.

Rule: a thread that was joined may still be leaving, so what is held is looked at until it rests.
"""

from __future__ import annotations

import os
import time

_WAIT_S, _PAUSE_S = 10.0, 0.01


def held() -> tuple[int, int]:
    """Threads and descriptors, now."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def held_at_rest() -> tuple[int, int]:
    """Once two looks in a row say the same."""
    before = held()
    while True:
        time.sleep(_PAUSE_S)
        now = held()
        if now == before:
            return now
        before = now


def held_again(before: tuple[int, int]) -> tuple[int, int]:
    """As soon as it is `before`; else what it is after ten seconds."""
    until = time.monotonic() + _WAIT_S
    while held() != before and time.monotonic() < until:
        time.sleep(_PAUSE_S)
    return held()

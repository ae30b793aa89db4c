"""An event loop whose time moves only when nothing is left to do: an hour passes at once.

The rule: only for code that waits for timers and other tasks; a socket or a thread that would wake
the loop is not waited for.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

from spear.clock import Clock

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if timeout is None and not found:
            raise RuntimeError("every task waits, and nothing will wake one")
        if not found:
            self.now += timeout or 0.0
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class VirtualClock(Clock):
    """The time of the running VirtualLoop; randomness from a seed."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)

    def now_ns(self) -> int:
        return 1_700_000_000 * 10**9 + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def random_bytes(self, count: int) -> bytes:
        return self.random.randbytes(count)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end in virtual time; a task that is left behind is an error."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def alone() -> T:
            result = await main
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
            return result

        return runner.run(alone())

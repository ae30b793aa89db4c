"""Lets one coroutine serve callers with an event loop and callers without.

The rule: what a coroutine of ours waits for is a Run or an `offload`; without a loop a Run yields
itself and `drive` waits for it natively, so that a sync call costs no loop and no thread.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")


def running_loop() -> AbstractEventLoop | None:
    """The loop running on this thread; imports nothing, since no loop runs before asyncio does."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    loop: AbstractEventLoop | None = asyncio._get_running_loop()
    return loop


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine to its end on this thread, without a loop.

    What interrupts a wait (KeyboardInterrupt) is raised inside the coroutine, which may still wait
    for its guest to end. RuntimeError where a loop runs on this thread: it would stand still.
    """
    if running_loop() is not None:
        coroutine.close()
        raise RuntimeError("an event loop runs on this thread: await the async methods instead")
    error: BaseException | None = None
    while True:
        try:
            waited = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        error = None
        try:
            waited.wait()
        except BaseException as caught:
            error = caught


async def offload(call: Callable[[], T]) -> T:
    """The result of a slow call that releases the GIL: on a helper thread where a loop must go on,
    else at once."""
    loop = running_loop()
    return call() if loop is None else await loop.run_in_executor(None, call)

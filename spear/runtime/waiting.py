"""Lets one coroutine serve callers with an event loop and callers without.

The rule: what a coroutine of ours waits for (a Run, a Run's change, a Latch) waits on the loop
where one runs; elsewhere it yields what has a `wait`, and `drive` calls that, so that a sync call
costs no loop and no thread.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock

from spear.errors import NodeBusy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    class Waitable(Awaitable[Any], Protocol):
        """What can be waited for with a loop and without."""

        def wait(self, timeout_s: float | None = None) -> bool: ...


def running_loop() -> AbstractEventLoop | None:
    """The loop running on this thread; imports nothing, since no loop runs before asyncio does."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running is None:  # also while another thread imports asyncio
        return None
    loop: AbstractEventLoop | None = running()
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


def submit(call: Callable[[], None]) -> None:
    """As `offload`, but nobody waits for the call, so nobody can give it up; it tells its end and
    its errors itself. It has a thread of its own: it may take long, and others' calls are not to
    wait for it. Raises NodeBusy."""
    if running_loop() is None:
        call()
        return
    import threading

    try:
        threading.Thread(target=call, name="spear-load", daemon=True).start()
    except RuntimeError as error:
        raise NodeBusy("the system gives no more threads") from error


async def within(waited: Waitable, timeout_s: float) -> bool:
    """Waits at most so long; whether what was waited for came."""
    if running_loop() is None:
        return await _Within(waited, timeout_s)
    try:
        async with sys.modules["asyncio"].timeout(timeout_s):
            await waited
    except TimeoutError:
        return False
    return True


class _Within:
    """What a driver without a loop waits for."""

    __slots__ = ("_came", "_timeout_s", "_waited")

    def __init__(self, waited: Waitable, timeout_s: float) -> None:
        self._waited, self._timeout_s, self._came = waited, timeout_s, False

    def wait(self) -> None:
        self._came = self._waited.wait(self._timeout_s)

    def __await__(self) -> Generator[Any, Any, bool]:
        yield self
        return self._came


class Latch:
    """Opened once, by any thread; any number of threads and loops wait for it."""

    __slots__ = ("_lock", "_wakers", "opened")

    def __init__(self) -> None:
        self.opened = False
        self._lock = allocate_lock()
        self._wakers: list[Callable[[], object]] = []

    def open(self) -> None:
        with self._lock:
            self.opened = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def wait(self, timeout_s: float | None = None) -> bool:
        """True once open; False after `timeout_s`."""
        waiter = allocate_lock()
        waiter.acquire()
        wake = waiter.release
        try:
            if self._enter(wake):
                waiter.acquire(timeout=-1 if timeout_s is None else timeout_s)
        finally:
            self._leave(wake)
        return self.opened

    def __await__(self) -> Generator[Any, Any, None]:
        while not self.opened:
            loop = running_loop()
            if loop is None:
                yield self
                continue
            future = loop.create_future()
            wake = _waker(loop, future)
            try:
                if self._enter(wake):
                    yield from future
            finally:
                self._leave(wake)

    def tell(self, wake: Callable[[], object]) -> bool:
        """Has `wake` called at the opening, from the thread that opens; False: it is open."""
        return self._enter(wake)

    def _enter(self, wake: Callable[[], object]) -> bool:
        with self._lock:
            if not self.opened:
                self._wakers.append(wake)
            return not self.opened

    def _leave(self, wake: Callable[[], object]) -> None:
        with self._lock:
            if wake in self._wakers:
                self._wakers.remove(wake)


def _waker(loop: AbstractEventLoop, future: Future[None]) -> Callable[[], object]:
    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(resolve)
        except RuntimeError:
            return  # the loop was closed, and who waited on it is gone

    return wake

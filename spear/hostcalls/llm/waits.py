"""One time limit for many waits, set up once, at a fraction of the cost of `asyncio.timeout`:
nothing for a piece of a stream, and little for a request.

The rule: the limit ends a wait, as `asyncio.timeout` does, and never what lies between two waits;
a cancelling from elsewhere stays one.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import TracebackType
    from typing import Any

T = TypeVar("T")


async def within(left_s: float, wait: Awaitable[T]) -> T:
    """What the one wait gives. Raises TimeoutError. As a WaitLimit for it alone, at half the cost:
    each request has one."""
    task = asyncio.current_task()
    assert task is not None
    cancelling, struck = task.cancelling(), False

    def strike(task: asyncio.Task[object]) -> None:
        nonlocal struck
        struck = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(left_s, strike, task)
    try:
        return await wait
    except asyncio.CancelledError as error:
        ours, struck = struck, False
        if ours and task.uncancel() <= cancelling:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        if struck:
            task.uncancel()
        del task  # or it keeps itself, where the error that ended the wait is its own


class WaitLimit:
    """`with limit:` around each wait of an async function; raises TimeoutError there. `close` it
    when nothing is waited for any more."""

    __slots__ = ("_cancelling", "_over", "_struck", "_task", "_timer")

    def __init__(self, left_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(left_s, self._strike)
        self._task: asyncio.Task[object] | None = None  # that waits now
        self._cancelling = 0
        self._over = self._struck = False

    def close(self) -> None:
        self._timer.cancel()

    def outside(self, wait: Awaitable[None]) -> Awaitable[None]:
        """A wait within one of the limit's, which it does not end: the next one it does."""
        return _Outside(self, wait)

    def __enter__(self) -> None:
        if self._over:
            raise TimeoutError
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        task, self._task = self._task, None
        if not self._struck:
            return
        self._struck = False
        assert task is not None
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _strike(self) -> None:
        self._over = True
        if self._task is not None:
            self._struck = True
            self._task.cancel()


class _Outside:
    """No coroutine: one that is never awaited, since its request was cancelled, warns."""

    __slots__ = ("_limit", "_wait")

    def __init__(self, limit: WaitLimit, wait: Awaitable[None]) -> None:
        self._limit, self._wait = limit, wait

    def __await__(self) -> Generator[Any, None, None]:
        limit = self._limit
        task, limit._task = limit._task, None
        try:
            yield from self._wait.__await__()
        finally:
            limit._task = task
            del task  # or it keeps itself, where the error that ended the wait is its own
        if limit._over:
            raise TimeoutError

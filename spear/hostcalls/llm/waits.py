"""One time limit for many waits, set up once: what it costs is not paid for every piece of a stream.

The rule: the limit ends a wait, as `asyncio.timeout` does, and never what lies between two waits;
a cancelling from elsewhere stays one.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


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

"""Notices that an event loop was closed.

Rule: the loop alone holds a LoopEnd, as the reader of a descriptor that nobody writes to, and lets
it go when it is closed. (The reader that is called will not do: whoever keeps a handler's exception
keeps the frames that it was called from.)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class LoopEnd:
    """Calls `lost(mark)` when nobody holds it any more."""

    __slots__ = ("_lost", "_mark")

    def __init__(self, lost: Callable[[object], object], mark: object) -> None:
        self._lost, self._mark = lost, mark

    def __call__(self) -> None:
        """Never: the descriptor is quiet."""

    def __del__(self) -> None:
        self._lost(self._mark)

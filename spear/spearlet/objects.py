"""The node's object store, made when something first needs it.

The rule: one store a node, shared by its guests and its Python callers; who needs none pays
nothing.
"""

from __future__ import annotations

from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.objstore import ObjectStore


class Objects:
    """Makes the store once, with a budget of `bytes_max`."""

    __slots__ = ("_bytes_max", "_lock", "_store")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = allocate_lock()
        self._store: ObjectStore | None = None

    def store(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                from spear._core.objstore import ObjectStore

                self._store = ObjectStore(self._bytes_max)
            return self._store

"""Rows that a list comes to and cannot read: each is told once in the node's log, and passed over.

The rule: who lists gets what can be read; who asks for just that row gets its error. A range in
which the store cannot tell rows apart is told as one, by the row before it.
"""

from __future__ import annotations

from spear.kv.batch import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.errors import KvDamaged
    from spear.telemetry.jsonlog import Log

_TOLD_MAX = 1000  # then there is nothing new in one more


class Unreadable:
    """Of one node, on its loop."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: set[bytes] = set()

    def tell(self, key: bytes, error: KvDamaged) -> None:
        if key not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(key)
            self._log.error("left out of a list", row=shown(key), reason=str(error))

"""When the mark of a store is on the disk: it follows the telling.

Rule: a test that looks at the folder of an open store has it noted first.
"""

from __future__ import annotations

from spear.kv.rocks import RocksKv


def note_what_is_safe(kv: RocksKv) -> None:
    """How far the flushes so far made writes safe."""
    kv._flusher.note()

"""When the mark of a store is on the disk: it follows the telling, on the flush thread.

Rule: a test that looks at the folder of an open store waits for it.
"""

from __future__ import annotations

import threading

from spear.kv.rocks import RocksKv


def wait_for_mark(kv: RocksKv) -> None:
    """Returns once it is noted how far the flushes so far made writes safe."""
    noted = threading.Event()
    kv._committer._work.put(noted.set)
    noted.wait()

"""Executions whose acceptance could not be kept: nothing of them may be left.

The rule: where only the flush of its row failed the row is there, and the node's next process would
run it beside what its caller has sent again; so it goes, however often that has to be tried.
"""

from __future__ import annotations

import asyncio
from functools import partial

from spear.spearlet.node import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from spear.spearlet.node.parts import Parts

_AGAIN_S = 0.5


class Refused:
    """Of one node, on its loop; `live` has the ids of what has been accepted."""

    def __init__(self, parts: Parts, live: Container[str]) -> None:
        self._parts, self._live = parts, live

    def take_back(self, id: str, *, power: bool) -> None:
        key = rows.live_key(id)
        again = id in self._live  # sent again under its id: the row is that one's
        if not again and self._parts.kv.get(key) is not None:
            self._parts.journal.delete(key)
            self._parts.journal.then(partial(self._taken_back, id, power), power=power)

    def _taken_back(self, id: str, power: bool, error: Exception | None) -> None:
        if error is not None:
            again = partial(self.take_back, id, power=power)
            asyncio.get_running_loop().call_later(_AGAIN_S, again)

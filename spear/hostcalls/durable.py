"""A guest puts an object durably: it is in the table already, and whoever keeps objects keeps it.

The rule: 0 only once it is kept. What cannot be kept is an error and a line in the guest's log; the
object stays in memory then. A guest that ends meanwhile ends its wait, and nothing else.
"""

from __future__ import annotations

from errno import EIO
from typing import Protocol

from spear.errors import SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.door import Call, Handler

PUT = 17  # as in table.py
_WARN = 3


class Keeper(Protocol):
    """Who has a store for objects."""

    async def keep(self, key: bytes, version: int) -> None:
        """Returns once this version is kept, or a later one, or it was deleted. Cancelling ends
        the wait only. Raises SpearError: nothing was kept."""


def durable_handlers(keeper: Keeper) -> dict[int, Handler]:
    """By operation code."""

    async def put(call: Call) -> int:
        key, version = call.args
        try:
            await keeper.keep(key, version)
        except SpearError as error:
            call.log(_WARN, f"{call.name}: not durable: {error}")
            return -EIO
        return 0

    return {PUT: put}

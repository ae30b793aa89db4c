"""Messages on their way into one guest's channel, of one turn of a loop; see outlets.pyx."""

from asyncio import Future
from collections.abc import Callable
from typing import Any

from spear._core.endpoints import Channel

class Outlet:
    """Messages are held, in order, until `go`; natively never more than `held_max`. The first one
    that is held has the outlet put into `due`, or where that is empty `begin` called with the
    outlet, which puts it there and sees to a `go` of all that are in it."""

    channel: Channel
    held: list[bytes]
    moving: Future[Any] | None

    def __init__(
        self, channel: Channel, due: list[Any], begin: Callable[[Any], object], held_max: int
    ) -> None: ...
    def hold(self, message: bytes) -> None:
        """Behind what is held; it does not ask how much that is."""

    def go(self) -> None:
        """What is held goes into the channel, unless `moving`. What finds no room is left to
        `follow`; where the reader is gone it is dropped. Raises InvalidArgument for a message that
        never fits."""

    def follow(self) -> Future[Any]:
        """Brings what is held into the channel, in order, as there is room, and is `moving` until
        then. Its maker's to say how."""

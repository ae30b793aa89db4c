"""Python's side of the calls that guests post: handlers, and what they are given; see door.pyx."""

from collections.abc import Awaitable, Callable
from typing import Any, final

from spear._core.handles import Handle

Answer = int | bytes | tuple[int, bytes] | Handle
Handler = Callable[["Call"], Answer | Awaitable[Answer]]
Failed = Callable[["Call", BaseException], object]

@final
class Call:
    """One call of a guest; given to the handler of its operation code."""

    name: str  # of the import, with its module: "spear.cchat_create"
    op: int
    args: tuple[Any, ...]  # one a letter of the call's shape: int, bytes, Handle; an output's room
    context: Any  # what the guest's start was given as that; None: nothing
    @property
    def guest(self) -> int:
        """The same for all calls of a guest that has a call under way, and no other guest's."""
    @property
    def gone(self) -> bool:
        """Whether the guest has ended; nobody reads the answer then."""
    def log(self, level: int, message: str) -> None:
        """A line in the guest's log; 3 is warn, 4 is error."""
    async def tool(
        self, function: int, args: bytes, arena: tuple[int, int], out_max: int
    ) -> tuple[int, str]:
        """Runs function `function` of the guest's table, with `args` laid out in its memory at
        `arena` (address, size); gives 0 and its output, or its error and "". Only for a call that
        may call tools, and one tool at a time."""

@final
class Door:
    """Answers the calls of one executor's guests; made by Executor."""

    def __init__(self) -> None: ...

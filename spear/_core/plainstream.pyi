"""The short way of the plain chunks of one stream; see plainstream.pyx."""

from typing import final

from spear._core.outlets import Outlet

@final
class PlainStream:
    """Of a stream of OpenAI's, into one outlet."""

    def __init__(self, outlet: Outlet) -> None: ...
    def begin(self, bytes_max: int, characters_max: int) -> None:
        """So much more may come, and be its text, by this way. To be called where the next byte
        begins a chunk of HTTP, and in it an event."""

    def take(self, data: bytes) -> bool:
        """What one read brought: True where it was all plain. Else nothing was done."""

    def end(self) -> int:
        """How many bytes it took since it began; it takes no more until it begins again."""

    def text(self) -> str:
        """Of what it took since it was asked last."""

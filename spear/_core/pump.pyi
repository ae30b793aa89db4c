"""Reads the sockets of many streams in one call; see pump.pyx."""

from collections.abc import Callable

from spear._core.plainstream import PlainStream

class Tap:
    """Where what comes from one socket goes: to `straight` while that takes it, else to `passed`.
    `ended`: the socket is not read any more: it is at its end (None), which whoever has it finds by
    a read, or broken by this error, which no read finds again. `failed`: one of the others raised
    this, and the socket is not read any more."""

    straight: PlainStream | None

    def __init__(
        self,
        passed: Callable[[bytes], object],
        ended: Callable[[OSError | None], object],
        failed: Callable[[Exception], object],
    ) -> None: ...

class Pump:
    """Of one event loop, which calls `turn` whenever the pump's own descriptor can be read."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def fileno(self) -> int: ...
    def add(self, fd: int, tap: Tap) -> None:
        """The socket, which does not block, is read by the pump from now on, and by nobody else
        until it is removed. Raises OSError."""

    def remove(self, fd: int) -> None:
        """It is not read any more; before it is closed. Nothing where it is not there."""

    def turn(self) -> None:
        """Reads once each of those that have something, as many as one turn has room for."""

    def close(self) -> None:
        """Reads nothing any more."""

"""Has the sockets of streams that have a short way read together, past their transports.

The rule: a socket is read by its transport or by the pump, never by both; an end is always the
transport's to find, and an error that the pump found is told, as it is found only once. What comes
by TLS is not to be read past it. Without the pump all goes its usual way, only slower. What comes
first after a pause is read at once; after a turn nobody is read for PAUSE_S, so that the loop wakes
once for many streams.
"""

from __future__ import annotations

import asyncio

from spear._core.pump import Pump, Tap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear._core.plainstream import PlainStream


PAUSE_S = 0.005  # far less than a reader notices; with 2 ms a chunk costs a quarter more


class Pumping:
    """The pump of one client, on the loop where it was asked for last."""

    def __init__(self) -> None:
        self._pump: Pump | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def pump(self) -> Pump:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._pump is None or self._loop is not loop:
            pump = Pump()
            loop.add_reader(pump.fileno(), self._turn)
            self._pump, self._loop = pump, loop
        return self._pump

    def _turn(self) -> None:
        """Of what has something, and then none for a while."""
        pump, loop = self._pump, self._loop
        if pump is None or loop is None:
            return
        loop.remove_reader(pump.fileno())
        loop.call_later(PAUSE_S, self._go_on, pump)
        pump.turn()

    def _go_on(self, pump: Pump) -> None:
        if pump is self._pump and self._loop is not None:
            self._loop.add_reader(pump.fileno(), self._turn)

    def close(self) -> None:
        """Once nobody reads by it."""
        pump, loop, self._pump = self._pump, self._loop, None
        if pump is None or loop is None or loop.is_closed():
            return
        loop.remove_reader(pump.fileno())
        pump.close()


class Aside:
    """The reading of one socket past its transport, from `begin` to `end`."""

    __slots__ = ("_fd", "_lost", "_pump", "_pumping", "_tap", "_transport")

    def __init__(self, pumping: Pumping) -> None:
        self._pumping, self._fd = pumping, -1
        self._pump: Pump | None = None
        self._tap: Tap | None = None
        self._transport: asyncio.Transport
        self._lost: Callable[[OSError], object]

    def begin(
        self, transport: asyncio.Transport, passed: Callable[[bytes], object],
        failed: Callable[[Exception], object], lost: Callable[[OSError], object],
    ) -> None:  # fmt: skip
        """What has no short way is `passed` on; what one raises ends it and is `failed`'s; by what
        the connection is `lost` is told."""
        socket = transport.get_extra_info("socket")
        if self._tap is not None or socket is None or transport.is_closing():
            return
        if transport.get_extra_info("ssl_object") is not None:
            return
        try:
            pump = self._pumping.pump()
        except OSError:  # no descriptor for it is left
            return
        fd, tap = socket.fileno(), Tap(passed, self._ended, failed)
        transport.pause_reading()
        self._pump, self._fd, self._tap, self._transport = pump, fd, tap, transport
        self._lost = lost
        try:
            pump.add(fd, tap)
        except OSError:
            self.end()

    def straight(self, way: PlainStream | None) -> None:
        """The short way of what comes next; None: there is none now."""
        if self._tap is not None:
            self._tap.straight = way

    def _ended(self, error: OSError | None) -> None:
        self.end()
        if error is not None:
            self._lost(error)

    def end(self) -> None:
        """The transport reads on."""
        pump, self._pump, self._tap = self._pump, None, None
        if pump is None:
            return
        pump.remove(self._fd)
        if not self._transport.is_closing():
            self._transport.resume_reading()

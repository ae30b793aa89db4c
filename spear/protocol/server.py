"""The node's end of framed connections: listens, accepts, drains.

The rule: connections are bounded in number, and every call's end is awaited here. What
a connection does is serving.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from spear._core.framing import FRAME_BYTES_MAX
from spear._core.servedcalls import Route
from spear.errors import NodeBusy
from spear.protocol import sockets
from spear.protocol.message import Hello
from spear.protocol.serving import (
    HELLO_TIMEOUT_S,
    INFLIGHT_BYTES_MAX,
    Caller,
    Handler,
    ServedConnection,
    Serving,
    Turn,
)
from spear.protocol.session import HOST, WINDOW, Session
from spear.protocol.sockets import Address, Socket
from spear.protocol.transport import (
    BUFFER_BYTES_MAX,
    LINGER_S,
    STALL_S,
    SocketTransport,
    Transport,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.servedcalls import UnderWay

HEARTBEAT_MS: Final = 5000
_ACCEPTS_A_TURN: Final = 64
_NO_ROOM: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NO_ROOM_PAUSE_S: Final = 0.1


class Limits(NamedTuple):
    """Of one server, and of each of its connections."""

    connections: int = 1024
    window: int = WINDOW
    frame_bytes_max: int = FRAME_BYTES_MAX
    buffer_bytes_max: int = BUFFER_BYTES_MAX
    inflight_bytes_max: int = INFLIGHT_BYTES_MAX
    hello_timeout_s: float = HELLO_TIMEOUT_S
    stall_s: float = STALL_S
    heartbeat_ms: int = HEARTBEAT_MS  # over TCP


LIMITS: Final = Limits()


class FrameServer:
    """Gives the calls of all its connections to one handler; see serving.Serving for the rest."""

    def __init__(
        self,
        handler: Handler,
        authorize: Callable[[Caller, Hello], object],
        report: Callable[[str, BaseException], None],
        limits: Limits = LIMITS,
        turn: Turn | None = None,
        routes: Mapping[str, Route] = MappingProxyType({}),
    ) -> None:
        self._limits = limits
        self._connections: set[ServedConnection] = set()
        self._calls: set[UnderWay] = set()
        self._serving = Serving(
            handler, authorize, report, self._calls, self._released, limits.hello_timeout_s,
            limits.inflight_bytes_max, turn, routes,
        )  # fmt: skip
        self._listening: dict[Socket, Address] = {}
        self._retries: set[asyncio.TimerHandle] = set()
        self._idle: asyncio.Event = asyncio.Event()
        self._accepted = self._refused = 0

    def stats(self) -> dict[str, int]:
        return {
            "connections": len(self._connections),
            "accepted": self._accepted,
            "refused": self._refused,
            "calls": sum(connection.calls for connection in self._connections),
        }

    def listen(self, address: str) -> str:
        """Starts to accept at `unix:PATH` or `HOST:PORT` (port 0: any); the address as it is."""
        sock, actual = sockets.listen(sockets.parse(address))
        self._listening[sock] = actual
        asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, sock)
        return str(actual)

    def _accept(self, listening: Socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, source = sockets.accept(listening)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(listening)
                    return
                continue  # that client is gone already
            self._serve_socket(sock, source)

    def _pause(self, listening: Socket) -> None:
        """Out of descriptors: the listener would be ready for ever, so it rests."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def again() -> None:
            self._retries.discard(timer)
            loop.add_reader(listening.fileno(), self._accept, listening)

        timer = loop.call_later(_NO_ROOM_PAUSE_S, again)
        self._retries.add(timer)

    def _serve_socket(self, sock: Socket, source: str) -> None:
        caller = Caller(source, sockets.credentials(sock))
        limits = self._limits
        transport = SocketTransport(
            asyncio.get_running_loop(), sock, frame_bytes_max=limits.frame_bytes_max,
            buffer_bytes_max=limits.buffer_bytes_max, stall_s=limits.stall_s,
        )  # fmt: skip
        self.serve(transport, caller, 0 if caller.credentials else limits.heartbeat_ms)

    def serve(self, transport: Transport, caller: Caller, heartbeat_ms: int = 0) -> None:
        """Serves a connection that was made by other means."""
        session = Session(
            HOST, window=self._limits.window, frame_bytes_max=self._limits.frame_bytes_max
        )
        loop = asyncio.get_running_loop()
        connection = ServedConnection(loop, transport, session, caller, self._serving, heartbeat_ms)
        full = len(self._connections) >= self._limits.connections
        self._connections.add(connection)
        self._idle.clear()
        transport.start(connection)
        if full:
            self._refused += 1
            connection.refuse(
                NodeBusy(f"the node serves {self._limits.connections} connections, its limit")
            )
        else:
            self._accepted += 1

    def _released(self, connection: ServedConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._idle.set()

    def stop_listening(self) -> None:
        """Accepts no more; its socket files go."""
        for timer in self._retries:
            timer.cancel()
        self._retries.clear()
        for sock, address in self._listening.items():
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
            if address.path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address.path)
        self._listening.clear()

    async def close(self, grace_s: float = 0.0) -> None:
        """Accepts no more, answers what is under way for up to `grace_s`, then cancels it."""
        self.stop_listening()
        for connection in list(self._connections):
            connection.drain()
        await self._released_within(grace_s)
        for connection in list(self._connections):
            connection.finish(None)
        while self._calls:
            await next(iter(self._calls)).ended()
        await self._released_within(2 * LINGER_S)
        for connection in list(self._connections):
            connection.transport.abort()
        await self._released_within(None)

    async def _released_within(self, seconds: float | None) -> None:
        """Returns when no connection is left, or after that time."""
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)

"""A session over a transport: what both ends of a connection share.

The rule: all that one turn of the loop says leaves in one write at its end. A connection ends once,
and `ended` tells the end's own class why; nothing is called after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from spear.errors import FrameError, SpearError, Unreachable
from spear.protocol.session import Session
from spear.protocol.transport import Transport


class Connection:
    """To be extended: `handlers` maps each event that the end knows to its method."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: Transport, session: Session
    ) -> None:
        self.loop, self.transport, self.session = loop, transport, session
        self.gone = False
        self._drained: asyncio.Future[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._handlers = self.handlers()

    def handlers(self) -> Mapping[type[Any], Callable[[Any], None]]:
        raise NotImplementedError

    def ended(self, error: SpearError | None) -> None:
        """The connection is gone; None: in order."""
        raise NotImplementedError

    # Of the transport

    def frames_received(self, frames: list[bytes]) -> None:
        raise NotImplementedError

    def take_one(self, frame: bytes) -> bool:
        """Whether more may come."""
        try:
            event = self.session.receive(frame)
        except FrameError as error:
            self._broken(error)
            return False
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        return True

    def framing_failed(self, error: FrameError) -> None:
        self.session.refuse(error)
        self._broken(error)

    def _broken(self, error: FrameError) -> None:
        """The other side broke the rules: it was told so."""
        self.finish(error)

    def connection_lost(self, error: SpearError | None) -> None:
        self.finish(error, abort=True)

    def writing_paused(self) -> None:
        if self._drained is None:
            self._drained = self.loop.create_future()

    def writing_resumed(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    @property
    def write_paused(self) -> bool:
        return self._drained is not None

    # Of the ends

    def flush_soon(self, *, alone: bool = False) -> None:
        """Sends what the session has to say when this turn of the loop is over; at once if it is
        `alone`, when nothing else is under way that could speak in this turn."""
        if not self.session.flush_due:
            if alone:
                return self.flush()
            self.session.flush_due = True
            self.loop.call_soon(self.flush)
        return None

    def flush(self) -> None:
        """Sends it now."""
        self.session.flush_due = False
        outgoing = self.session.outgoing
        if outgoing:
            self.session.outgoing = []
            if not self.gone:
                self.transport.send(outgoing)

    async def drained(self) -> None:
        """Returns once the transport takes more. Raises Unreachable when it is gone."""
        while self._drained is not None:
            await asyncio.shield(self._drained)
        if self.gone:
            raise Unreachable("the connection is closed")

    def finish(self, error: SpearError | None, *, abort: bool = False) -> None:
        """Ends the connection: in order, so that what was said still arrives, or at once."""
        if self.gone:
            return
        self.session.close()
        if not abort:
            self.flush()
        self.gone = True
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        if abort:
            self.transport.abort()
        else:
            self.transport.close()
        self.writing_resumed()
        self.ended(error)

    def start_heartbeats(self) -> None:
        """As the welcome said; without them there is no timer."""
        if self.session.heartbeat_ms:
            self._beat = self.loop.call_later(self.session.heartbeat_ms / 1000, self._tick)

    def _tick(self) -> None:
        if not self.session.tick():
            return self.finish(Unreachable("the other side sends no heartbeats"), abort=True)
        self.flush_soon()
        self.start_heartbeats()
        return None

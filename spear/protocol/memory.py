"""A transport without a socket: two ends in one process, for tests and simulations.

The rule: as the socket's, bytes arrive in a later turn of the loop, cut as `cut` says, and a side
that does not read makes the other pause.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from spear._core.framing import FRAME_BYTES_MAX, FrameDecoder, encode_many
from spear.errors import FrameError, SpearError
from spear.protocol.transport import HIGH_BYTES, LOW_BYTES, Receiver

Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterable[bytes]:
    return (data,)


class MemoryTransport:
    """One end; made by `memory_pair`."""

    other: MemoryTransport

    def __init__(self, loop: asyncio.AbstractEventLoop, frame_bytes_max: int, cut: Cut) -> None:
        self._loop, self._cut, self._frame_bytes_max = loop, cut, frame_bytes_max
        self._decoder = FrameDecoder(frame_bytes_max)
        self._receiver: Receiver | None = None
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._reading = self._due = self._paused = self._closed = self._peer_closed = False

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.resume_reading()

    def resume_reading(self) -> None:
        self._reading = True
        self._deliver_soon()

    def pause_reading(self) -> None:
        self._reading = False

    def send(self, bodies: Sequence[bytes]) -> None:
        if not self._closed:
            self.other._arrive(encode_many(bodies, self._frame_bytes_max))
            if self.other._inbox_bytes > HIGH_BYTES and not self._paused and self._receiver:
                self._paused = True
                self._receiver.writing_paused()

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _arrive(self, data: bytes) -> None:
        if not self._closed:
            self._inbox.extend(self._cut(data))
            self._inbox_bytes += len(data)
            self._deliver_soon()

    def _deliver_soon(self) -> None:
        if not self._due and not self._closed:
            self._due = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._due = False
        while self._inbox and self._reading and not self._closed:
            self._take(self._inbox.popleft())
        if self._peer_closed and not self._inbox and self._reading:
            self._end(None)

    def _take(self, chunk: bytes) -> None:
        assert self._receiver is not None
        self._inbox_bytes -= len(chunk)
        try:
            frames = self._decoder.receive(chunk)
        except FrameError as error:
            self._reading = False
            self._receiver.framing_failed(error)
            return
        if frames:
            self._receiver.frames_received(frames)
        if self._inbox_bytes <= LOW_BYTES:
            self.other._room()

    def _room(self) -> None:
        if self._paused and self._receiver and not self._closed:
            self._paused = False
            self._receiver.writing_resumed()

    def _end(self, error: SpearError | None) -> None:
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            self.other._peer_closed = True
            self.other._deliver_soon()
            if self._receiver is not None:
                self._loop.call_soon(self._receiver.connection_lost, error)


def memory_pair(
    loop: asyncio.AbstractEventLoop, *, frame_bytes_max: int = FRAME_BYTES_MAX, cut: Cut = whole
) -> tuple[MemoryTransport, MemoryTransport]:
    """The two ends of one connection."""
    one, two = (MemoryTransport(loop, frame_bytes_max, cut) for _ in range(2))
    one.other, two.other = two, one
    return one, two

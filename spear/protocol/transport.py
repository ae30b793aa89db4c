"""Frames over a socket: what comes in is decoded in place, what goes out leaves once a turn.

The rule: one read of the socket gives whole frames to the receiver in one call, and no timer or
task exists while nothing waits to be written. What the kernel does not take waits here, bounded:
above `high_bytes` the receiver is told to pause, and a peer that takes nothing for `stall_s` is
given up. A transport of our own, since those of asyncio and uvloop pass no descriptors.
"""

from __future__ import annotations

import asyncio
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from spear._core.framing import FRAME_BYTES_MAX, FrameDecoder, encode_parts
from spear._core.socketframes import SMALL_BYTES, read_frames, send_frame
from spear.errors import FrameError, SpearError, Unreachable

HIGH_BYTES: Final = 1 << 20
LOW_BYTES: Final = 256 << 10
BUFFER_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX
STALL_S: Final = 30.0
# After the last word the peer has this long to read it; closing at once could take it away.
LINGER_S: Final = 1.0
DESCRIPTORS_MAX: Final = 64
_PARTS_MAX: Final = 512  # of one sendmsg; the system's limit is 1024
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(DESCRIPTORS_MAX * array("i").itemsize)


class Receiver(Protocol):
    """Whom a transport tells; everything on its loop."""

    def frames_received(self, frames: list[bytes]) -> None: ...
    def framing_failed(self, error: FrameError) -> None:
        """The peer announced a frame beyond the limit; nothing more is read."""

    def writing_paused(self) -> None: ...
    def writing_resumed(self) -> None: ...
    def connection_lost(self, error: SpearError | None) -> None:
        """Once, and the last; None: the peer or `close` ended it."""


class Transport(Protocol):
    """What carries frames: a socket, or memory in tests."""

    def start(self, receiver: Receiver) -> None: ...
    def send(self, bodies: Sequence[bytes]) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None:
        """Sends what waits, then ends."""

    def abort(self) -> None: ...


class SocketTransport:
    """Over a connected stream socket, which it owns. `descriptors`: take those that are passed
    beside frames (Unix sockets); else the system drops them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        stall_s: float = STALL_S,
        descriptors: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._loop, self._sock, self._fd = loop, sock, sock.fileno()
        self._decoder = FrameDecoder(frame_bytes_max)
        self._frame_bytes_max, self._buffer_bytes_max = frame_bytes_max, buffer_bytes_max
        self._stall_s = stall_s
        self._read: Callable[[FrameDecoder, int], list[bytes] | None] = read_frames
        if descriptors:
            self._read = self._read_with_descriptors
        self._descriptors: deque[int] = deque()
        # What waits to be written, with the descriptors that go beside each part's first byte.
        self._backlog: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._waiting_bytes = self._taken_bytes = self._stall_mark = 0
        self._paused = self._reading = self._closing = self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the kernel did not take yet."""
        return self._waiting_bytes

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.resume_reading()

    # In

    def resume_reading(self) -> None:
        if not (self._reading or self._closing or self._ended or self._decoder.failed):
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        if self._ended:
            return  # the descriptor may be somebody else's by now
        try:
            frames = self._read(self._decoder, self._fd)
        except FrameError as error:
            self._fail(error)
            return
        except OSError as error:
            self._end(Unreachable(f"the connection broke: {error.strerror}"))
            return
        if frames:
            self._receiver.frames_received(frames)
        elif frames is None:
            cut = Unreachable("the connection ended inside of a frame")
            self._end(cut if self._decoder.buffered else None)
            return
        if self._decoder.failed and not self._ended:
            self._fail(FrameError(f"a frame of more than {self._frame_bytes_max} bytes, the limit"))

    def _fail(self, error: FrameError) -> None:
        self.pause_reading()
        self._receiver.framing_failed(error)

    def _read_with_descriptors(self, decoder: FrameDecoder, _: int) -> list[bytes] | None:
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into(
                [decoder.get_buffer()], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return []
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._descriptors.extend(found)
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > DESCRIPTORS_MAX:
            raise OSError(0, "too many descriptors were passed")
        return decoder.buffer_updated(size) if size else None

    def take_descriptor(self) -> int:
        """The next descriptor that was passed, now the caller's. Raises FrameError: none was."""
        if not self._descriptors:
            raise FrameError("a frame says that a descriptor was passed beside it, none was")
        return self._descriptors.popleft()

    # Out

    def send(self, bodies: Sequence[bytes], descriptors: Sequence[int] = ()) -> None:
        """Frames of these bodies; the descriptors stay the caller's and go beside the first."""
        if self._closing or self._ended:
            return
        if self._backlog or descriptors:
            idle = not self._backlog
            self._wait(self._parts(bodies), tuple(map(os.dup, descriptors)))
            if idle:
                self._write_backlog()
            return
        try:
            if len(bodies) == 1 and len(bodies[0]) <= SMALL_BYTES:
                left = send_frame(self._fd, bodies[0])
                if not left:
                    return
                parts = self._parts(bodies)
                sent = len(parts[0]) - left
            else:
                parts = self._parts(bodies)
                sent = self._sock.send(parts[0]) if len(parts) == 1 else self._send_parts(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._break(error)
            return
        if len(parts) > 1 or sent < len(parts[0]):
            self._wait(_rest(parts, sent), ())

    def _parts(self, bodies: Sequence[bytes]) -> list[bytes | memoryview]:
        return encode_parts(bodies, self._frame_bytes_max)

    def _send_parts(self, parts: Sequence[bytes | memoryview]) -> int:
        return self._sock.sendmsg(parts[:_PARTS_MAX])

    def _wait(self, parts: Sequence[bytes | memoryview], descriptors: tuple[int, ...]) -> None:
        """Keeps parts for later."""
        for part in parts:
            if len(part):
                self._backlog.append((memoryview(part), descriptors))
                self._waiting_bytes += len(part)
                descriptors = ()
        if not self._backlog:
            return
        if self._waiting_bytes > self._buffer_bytes_max:
            self._end_soon(
                Unreachable(
                    f"the peer reads too slowly: {self._waiting_bytes} bytes wait for it, the "
                    f"limit is {self._buffer_bytes_max}"
                )
            )
            return
        if self._timer is None:
            self._loop.add_writer(self._fd, self._write_backlog)
            self._stall_mark = self._taken_bytes
            self._timer = self._loop.call_later(self._stall_s, self._stalled)
        if self._waiting_bytes > HIGH_BYTES and not self._paused:
            self._paused = True
            self._receiver.writing_paused()

    def _write_backlog(self) -> None:
        try:
            while self._backlog:
                self._advance(self._send_some())
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._break(error)
            return
        if not self._backlog:
            self._written()
        if self._paused and self._waiting_bytes <= LOW_BYTES and not self._ended:
            self._paused = False
            self._receiver.writing_resumed()

    def _send_some(self) -> int:
        """One send: the parts up to the next that has descriptors."""
        first, descriptors = self._backlog[0]
        if descriptors:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
            sent = self._sock.sendmsg([first], [rights])
            self._backlog[0] = (first, ())
            _close_all(descriptors)
            return sent
        parts: list[bytes | memoryview] = []
        for part, beside in self._backlog:
            if beside or len(parts) == _PARTS_MAX:
                break
            parts.append(part)
        return self._send_parts(parts)

    def _advance(self, sent: int) -> None:
        self._waiting_bytes -= sent
        self._taken_bytes += sent
        while sent:
            part, descriptors = self._backlog[0]
            if sent < len(part):
                self._backlog[0] = (part[sent:], descriptors)
                return
            sent -= len(part)
            self._backlog.popleft()

    def _written(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._loop.remove_writer(self._fd)
        if self._closing:
            self._linger()

    def _stalled(self) -> None:
        """Another `stall_s` has passed with something to write."""
        assert self._timer is not None
        if self._taken_bytes == self._stall_mark:
            self._end(Unreachable(f"the peer has read nothing for {self._stall_s:g} s"))
        else:
            self._stall_mark = self._taken_bytes
            self._timer = self._loop.call_later(self._stall_s, self._stalled)

    # End

    def close(self) -> None:
        if not (self._closing or self._ended):
            self.pause_reading()
            self._closing = True
            if not self._backlog:
                self._linger()

    def _linger(self) -> None:
        """All is written: say so, and wait until the peer has read it or a moment has passed."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end_soon(None)
            return
        self._timer = self._loop.call_later(LINGER_S, self._end, None)
        self._loop.add_reader(self._fd, self._discard)
        self._reading = True

    def _discard(self) -> None:
        try:
            if self._sock.recv(64 << 10):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._end(None)

    def abort(self) -> None:
        self._end_soon(None)

    def _break(self, error: OSError) -> None:
        self._end_soon(Unreachable(f"the connection broke: {error.strerror}"))

    def _end_soon(self, error: SpearError | None) -> None:
        """As `_end`, but the receiver, which is in a call to here, hears of it afterwards."""
        if not self._ended:
            self._release()
            self._loop.call_soon(self._receiver.connection_lost, error)

    def _end(self, error: SpearError | None) -> None:
        if not self._ended:
            self._release()
            self._receiver.connection_lost(error)

    def _release(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, descriptors in self._backlog:
            _close_all(descriptors)
        self._backlog.clear()
        _close_all(self._descriptors)
        self._descriptors.clear()
        self._waiting_bytes = 0
        self._sock.close()


def _rest(parts: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of the parts after `sent` bytes of them."""
    left: list[bytes | memoryview] = []
    for part in parts:
        if sent >= len(part):
            sent -= len(part)
        else:
            left.append(memoryview(part)[sent:])
            sent = 0
    return left


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

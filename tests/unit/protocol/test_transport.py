"""Frames over sockets: descriptors, partial writes, peers that do not read, ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from spear._core.framing import FrameDecoder, encode, encode_many
from spear.errors import FrameError, SpearError, Unreachable
from spear.protocol import transport as transports
from spear.protocol.memory import memory_pair
from spear.protocol.transport import DESCRIPTORS_MAX, HIGH_BYTES, SocketTransport


class Told:
    """A receiver that keeps what it was told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.paused = self.resumed = 0
        self.failure: FrameError | None = None
        self.lost: list[SpearError | None] = []
        self._news = asyncio.Event()

    def frames_received(self, frames: list[bytes]) -> None:
        self.frames += frames
        self._news.set()

    def framing_failed(self, error: FrameError) -> None:
        self.failure = error
        self._news.set()

    def writing_paused(self) -> None:
        self.paused += 1

    def writing_resumed(self) -> None:
        self.resumed += 1
        self._news.set()

    def connection_lost(self, error: SpearError | None) -> None:
        self.lost.append(error)
        self._news.set()

    async def until(self, seen: Any) -> None:
        while not seen():
            self._news.clear()
            await self._news.wait()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    before = set(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()
    assert set(os.listdir("/proc/self/fd")) <= before, "descriptors were left"


def started(sock: socket.socket, **settings: Any) -> tuple[SocketTransport, Told]:
    told = Told()
    made = SocketTransport(asyncio.get_running_loop(), sock, **settings)
    made.start(told)
    return made, told


async def read_all(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while chunk := await loop.sock_recv(sock, 1 << 20):
        data += chunk
    return bytes(data)


async def test_frames_come_whole_from_any_cut(sockets) -> None:
    ours, theirs = sockets
    transport, told = started(ours)
    for byte in encode_many([b"one", b"", b"three"]):
        theirs.send(bytes([byte]))
        await asyncio.sleep(0)
    await told.until(lambda: len(told.frames) == 3)
    assert told.frames == [b"one", b"", b"three"]
    transport.abort()
    await told.until(lambda: told.lost)


async def test_what_is_sent_arrives_in_order_however_the_kernel_takes_it(sockets) -> None:
    ours, theirs = sockets
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    transport, told = started(ours)
    bodies = [bytes([n % 251]) * size for n, size in enumerate((10, 100_000, 0, 3, 20_000) * 20)]
    for at in range(0, len(bodies), 7):
        transport.send(bodies[at : at + 7])
    assert transport.waiting_bytes > 0
    transport.close()
    assert FrameDecoder(1 << 20).receive(await read_all(theirs)) == bodies
    theirs.close()
    await told.until(lambda: told.lost)
    assert told.lost == [None]
    assert transport.waiting_bytes == 0


async def test_a_peer_that_does_not_read_pauses_the_sender_until_it_does(sockets) -> None:
    ours, theirs = sockets
    transport, told = started(ours)
    sent = 0
    while not told.paused:
        transport.send([bytes(60_000)])
        sent += 1
    assert HIGH_BYTES < transport.waiting_bytes < HIGH_BYTES + 70_000
    got = 0
    while not told.resumed:
        got += len(await asyncio.get_running_loop().sock_recv(theirs, 1 << 20))
    assert (told.paused, told.resumed) == (1, 1)
    transport.close()
    got += len(await read_all(theirs))
    assert got == sent * 60_008
    theirs.close()
    await told.until(lambda: told.lost)


async def test_what_waits_for_a_peer_is_bounded(sockets) -> None:
    ours, _ = sockets
    transport, told = started(ours, buffer_bytes_max=3 << 20)
    while not told.lost:
        transport.send([bytes(100_000)])
        assert transport.waiting_bytes <= 3 << 20
        await asyncio.sleep(0)
    assert isinstance(told.lost[0], Unreachable)
    assert "reads too slowly" in str(told.lost[0])


async def test_a_peer_that_takes_nothing_is_given_up_and_one_that_takes_little_is_not(
    sockets,
) -> None:
    ours, theirs = sockets
    loop = asyncio.get_running_loop()
    timers: list[Any] = []
    transport, told = started(ours)
    original = transport._loop

    class Timed:
        """The loop, with timers that the test fires."""

        def call_later(self, delay: float, callback: Any, *arguments: Any) -> Any:
            timers.append((delay, callback))
            return original.call_later(3600, callback, *arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(original, name)

    transport._loop = Timed()  # type: ignore[assignment]
    while transport.waiting_bytes < 500_000:
        transport.send([bytes(100_000)])
    assert [delay for delay, _ in timers] == [transports.STALL_S]
    before = transport.waiting_bytes
    while transport.waiting_bytes == before:
        await loop.sock_recv(theirs, 1 << 16)
        await asyncio.sleep(0)
    timers.pop()[1]()  # it took some
    assert told.lost == []
    timers.pop()[1]()  # and now nothing
    assert "has read nothing for 30 s" in str(told.lost[0])


async def test_the_last_word_is_read_before_the_end(sockets) -> None:
    ours, theirs = sockets
    transport, told = started(ours)
    theirs.send(encode(b"not read any more"))
    transport.send([b"why"])
    transport.close()
    transport.send([b"after the end"])
    assert FrameDecoder(100).receive(await read_all(theirs)) == [b"why"]
    assert told.lost == []
    theirs.close()
    await told.until(lambda: told.lost)
    assert (told.lost, told.frames) == ([None], [])


async def test_a_peer_that_ends_is_told_once_with_the_reason(sockets) -> None:
    ours, theirs = sockets
    transport, told = started(ours)
    theirs.send(encode(b"whole"))
    theirs.close()
    await told.until(lambda: told.lost)
    transport.close()
    transport.abort()
    transport.send([b"x"])
    assert (told.frames, told.lost) == ([b"whole"], [None])


async def test_an_end_inside_of_a_frame_is_an_error(sockets) -> None:
    ours, theirs = sockets
    _, told = started(ours)
    theirs.send(encode(b"whole") + encode(b"cut")[:-1])
    theirs.close()
    await told.until(lambda: told.lost)
    assert told.frames == [b"whole"]
    assert "inside of a frame" in str(told.lost[0])


@pytest.mark.parametrize("before", [[], [b"good"]])
async def test_a_frame_beyond_the_limit_is_refused_before_it_comes(sockets, before) -> None:
    ours, theirs = sockets
    transport, told = started(ours, frame_bytes_max=100)
    theirs.send(encode_many(before) + struct.pack("<Q", 101))
    await told.until(lambda: told.failure)
    assert told.frames == before
    theirs.send(b"more")
    transport.resume_reading()  # does nothing now
    await asyncio.sleep(0.01)
    assert told.frames == before
    transport.close()
    theirs.close()
    await told.until(lambda: told.lost)


async def test_nothing_is_read_while_paused(sockets) -> None:
    ours, theirs = sockets
    transport, told = started(ours)
    transport.pause_reading()
    theirs.send(encode(b"waits"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert told.frames == []
    transport.resume_reading()
    await told.until(lambda: told.frames)
    transport.abort()
    await told.until(lambda: told.lost)


def pipe_with(data: bytes) -> int:
    """The end to read of a pipe that holds `data`."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def taken(transport: SocketTransport) -> bytes:
    descriptor = transport.take_descriptor()
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


async def test_descriptors_travel_beside_frames_in_order(sockets) -> None:
    ours, theirs = sockets
    one, told_one = started(ours, descriptors=True)
    two, told_two = started(theirs, descriptors=True)
    with pytest.raises(FrameError, match="none was"):
        two.take_descriptor()
    pipes = [pipe_with(b"%d" % n) for n in range(3)]
    one.send([b"without"])
    one.send([b"first"], pipes[:1])
    one.send([b"both", b"after"], pipes[1:])
    for pipe in pipes:
        os.close(pipe)
    await told_two.until(lambda: len(told_two.frames) == 4)
    assert told_two.frames == [b"without", b"first", b"both", b"after"]
    assert [taken(two) for _ in range(3)] == [b"0", b"1", b"2"]
    one.abort()
    await told_two.until(lambda: told_two.lost)
    await told_one.until(lambda: told_one.lost)


async def test_descriptors_wait_with_what_they_go_beside(sockets) -> None:
    ours, theirs = sockets
    one, told_one = started(ours, descriptors=True)
    while not one.waiting_bytes:
        one.send([bytes(100_000)])
    pipe = pipe_with(b"late")
    one.send([b"beside"], [pipe])
    os.close(pipe)
    one.send([b"after"])
    two, told_two = started(theirs, descriptors=True)
    await told_two.until(lambda: told_two.frames[-1:] == [b"after"])
    assert told_two.frames[-2] == b"beside"
    assert taken(two) == b"late"
    two.abort()
    await told_one.until(lambda: told_one.lost)
    await told_two.until(lambda: told_two.lost)


async def test_descriptors_that_nobody_takes_are_closed(sockets) -> None:
    ours, theirs = sockets
    one, told_one = started(ours, descriptors=True)
    two, told_two = started(theirs, descriptors=True)
    for _ in range(3):
        pipe = pipe_with(b"")
        one.send([b"x"], [pipe])
        os.close(pipe)
    await told_two.until(lambda: len(told_two.frames) == 3)
    two.abort()
    while not one.waiting_bytes and not told_one.lost:
        one.send([bytes(100_000)], [0])  # these never leave
        await asyncio.sleep(0)
    one.abort()
    await told_one.until(lambda: told_one.lost)


async def test_too_many_descriptors_end_the_connection(sockets) -> None:
    ours, theirs = sockets
    _, told = started(ours, descriptors=True)
    rights = array("i", [0] * (DESCRIPTORS_MAX // 2))
    for _ in range(3):
        theirs.sendmsg([encode(b"")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        await asyncio.sleep(0.01)
    await told.until(lambda: told.lost)
    assert isinstance(told.lost[0], Unreachable)


async def test_who_wants_no_descriptors_gets_none(sockets) -> None:
    ours, theirs = sockets
    transport, told = started(ours)
    rights = array("i", [0])
    theirs.sendmsg([encode(b"x")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    await told.until(lambda: told.frames)
    transport.abort()
    await told.until(lambda: told.lost)


async def test_memory_is_as_a_socket() -> None:
    def bytewise(data: bytes) -> list[bytes]:
        return [data[at : at + 1] for at in range(len(data))]

    one, two = memory_pair(asyncio.get_running_loop(), frame_bytes_max=100, cut=bytewise)
    told_one, told_two = Told(), Told()
    one.start(told_one)
    two.start(told_two)
    one.send([b"a", b"", b"b"])
    assert told_two.frames == []  # in a later turn
    await told_two.until(lambda: len(told_two.frames) == 3)
    assert told_two.frames == [b"a", b"", b"b"]
    one.close()
    await told_two.until(lambda: told_two.lost)
    await told_one.until(lambda: told_one.lost)
    assert (told_one.lost, told_two.lost) == ([None], [None])


async def test_memory_pauses_who_sends_to_one_that_does_not_read() -> None:
    one, two = memory_pair(asyncio.get_running_loop())
    told_one, told_two = Told(), Told()
    one.start(told_one)
    two.start(told_two)
    two.pause_reading()
    while not told_one.paused:
        one.send([bytes(100_000)])
    two.resume_reading()
    await told_one.until(lambda: told_one.resumed)
    assert all(frame == bytes(100_000) for frame in told_two.frames)
    two.abort()
    await told_one.until(lambda: told_one.lost)

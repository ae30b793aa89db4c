"""A client and a node's server: over sockets, TCP and memory."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spear._core.framing import FrameDecoder, encode, encode_many
from spear.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NodeBusy,
    NodeClosed,
    NotFound,
    PermissionDenied,
    SpearError,
    Unauthenticated,
    Unreachable,
)
from spear.protocol import message as wire
from spear.protocol.client import FrameChannel
from spear.protocol.memory import memory_pair
from spear.protocol.message import Hello
from spear.protocol.served_call import ServedCall
from spear.protocol.server import FrameServer, Limits
from spear.protocol.serving import Caller
from spear.protocol.status import CODES

TOKEN = "the token"


class Node:
    """A handler; what it does stands in the path."""

    def __init__(self) -> None:
        self.deadlines: list[int] = []
        self.begun = self.cancelled = 0
        self.gate = asyncio.Event()
        self.changed = asyncio.Event()

    def call(
        self, path: str, payload: bytes, deadline_ms: int, call: ServedCall
    ) -> bytes | Awaitable[bytes]:
        self.deadlines.append(deadline_ms)
        if path == "/echo":
            return payload
        if path == "/raise":
            raise NotFound(f"no {payload.decode()}")
        if path == "/bug":
            raise RuntimeError("secret")
        if path == "/who":
            return repr(call.identity).encode()
        return {"/later": self.later, "/hang": self.hang, "/gate": self.wait_at_gate}[path](payload)

    async def later(self, payload: bytes) -> bytes:
        await asyncio.sleep(0)
        if payload == b"raise":
            raise NotFound("no such thing")
        if payload == b"bug":
            raise RuntimeError("secret")
        return payload

    async def hang(self, payload: bytes) -> bytes:
        self.begun += 1
        self.changed.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.changed.set()
            raise
        raise AssertionError

    async def wait_at_gate(self, payload: bytes) -> bytes:
        self.begun += 1
        self.changed.set()
        await self.gate.wait()
        return payload

    async def stream(self, path: str, payload: bytes, deadline_ms: int, call: ServedCall) -> None:
        messages = call.messages
        if path == "/count":
            for number in range(int(payload)):
                await messages.send(b"%d" % number)
        elif path == "/sum":
            total = int(payload)
            async for message in messages:
                total += int(message)
            await messages.send(b"%d" % total, last=True)
        elif path == "/echo":
            await messages.send(payload)
            async for message in messages:
                await messages.send(message)
        elif path == "/flood":
            await self.flood(messages)
        elif path == "/raise":
            await messages.send(b"first")
            raise PermissionDenied("that is enough")
        else:
            await self.hang(payload)

    async def flood(self, messages: Any) -> None:
        try:
            while True:
                await messages.send(bytes(60_000))
                self.begun += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            self.changed.set()
            raise

    async def until(self, seen: Callable[[], bool]) -> None:
        while not seen():
            self.changed.clear()
            await self.changed.wait()


def authorize(caller: Caller, hello: Hello) -> object:
    if caller.credentials is not None:
        return caller.credentials.uid
    if hello.token == "bug":
        raise RuntimeError("secret")
    if hello.token != TOKEN:
        raise Unauthenticated("the token is wrong")
    return "by token"


class Served:
    def __init__(self, limits: Limits) -> None:
        self.node = Node()
        self.reports: list[tuple[str, BaseException]] = []
        self.server = FrameServer(
            self.node, authorize, lambda path, error: self.reports.append((path, error)), limits
        )


@asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[Served]:
    """A server; afterwards nothing of it is left."""
    before = set(os.listdir("/proc/self/fd"))
    made = Served(Limits(**limits))
    try:
        yield made
    finally:
        await made.server.close()
    assert made.server.stats()["connections"] == made.server.stats()["calls"] == 0
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1, "a call is left"
    for _ in range(1000):  # the test's own clients close in their own time
        if set(os.listdir("/proc/self/fd")) <= before:
            return
        await asyncio.sleep(0)
    raise AssertionError("a descriptor is left")


@asynccontextmanager
async def channel_to(made: Served, address: str) -> AsyncIterator[FrameChannel]:
    channel = await FrameChannel.connect(address, TOKEN)
    try:
        yield channel
    finally:
        await channel.close()


def in_memory(made: Served) -> Any:
    ours, theirs = memory_pair(asyncio.get_running_loop())
    made.server.serve(theirs, Caller("memory"))
    return ours


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"unix:{tmp_path}/node.sock" if request.param == "unix" else "127.0.0.1:0"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/node.sock"


async def test_calls_and_their_errors(address: str) -> None:
    async with served() as made, channel_to(made, made.server.listen(address)) as channel:
        assert await channel.call("/echo", b"hello") == b"hello"
        assert await channel.call("/later", b"hello", 1000) == b"hello"
        assert made.node.deadlines == [0, 1000]
        with pytest.raises(NotFound, match=r"^no bread$"):
            await channel.call("/raise", b"bread")
        with pytest.raises(NotFound, match=r"^no such thing$"):
            await channel.call("/later", b"raise")
        for path, payload in (("/bug", b""), ("/later", b"bug")):
            with pytest.raises(SpearError, match="its log says more"):
                await channel.call(path, payload)
        assert [(path, str(e)) for path, e in made.reports] == [
            ("/bug", "secret"),
            ("/later", "secret"),
        ]
        assert made.server.stats() == {"connections": 1, "accepted": 1, "refused": 0, "calls": 0}


async def test_many_calls_at_once_and_beyond_the_window(path: str) -> None:
    async with served(window=3) as made, channel_to(made, made.server.listen(path)) as channel:
        calls = [asyncio.ensure_future(channel.call("/gate", b"%d" % n)) for n in range(10)]
        await made.node.until(lambda: made.node.begun == 3)
        assert await channel_window(channel) == 3
        made.node.gate.set()
        assert await asyncio.gather(*calls) == [b"%d" % n for n in range(10)]
        assert made.node.begun == 10


async def channel_window(channel: FrameChannel) -> int:
    for _ in range(10):
        await asyncio.sleep(0)
    return channel.session.asked


async def test_large_messages(address: str) -> None:
    large = os.urandom(8 << 20)
    async with served() as made, channel_to(made, made.server.listen(address)) as channel:
        answers = await asyncio.gather(*(channel.call("/echo", large) for _ in range(3)))
        assert all(answer == large for answer in answers)


async def test_identities(path: str) -> None:
    async with served() as made:
        async with channel_to(made, made.server.listen(path)) as channel:
            assert await channel.call("/who", b"") == repr(os.getuid()).encode()
        async with channel_to(made, made.server.listen("127.0.0.1:0")) as channel:
            assert await channel.call("/who", b"") == b"'by token'"


async def test_who_is_not_let_in_is_told_so(path: str) -> None:
    async with served() as made:
        at = made.server.listen("127.0.0.1:0")
        for token in (None, "wrong"):
            with pytest.raises(Unauthenticated, match=r"^the token is wrong$"):
                await FrameChannel.connect(at, token)
        with pytest.raises(SpearError, match="its log says more"):
            await FrameChannel.connect(at, "bug")
        assert made.reports[0][0] == "hello"


async def test_streams_of_the_node(address: str) -> None:
    async with served() as made, channel_to(made, made.server.listen(address)) as channel:
        stream = await channel.stream("/count", b"5")
        assert [m async for m in stream] == [b"0", b"1", b"2", b"3", b"4"]
        stream = await channel.stream("/raise", b"")
        assert await anext(stream) == b"first"
        with pytest.raises(PermissionDenied, match="that is enough"):
            await anext(stream)
        with pytest.raises(PermissionDenied):
            await stream.send(b"x")


async def test_streams_of_the_client(address: str) -> None:
    async with served() as made, channel_to(made, made.server.listen(address)) as channel:
        stream = await channel.stream("/sum", b"1", last=False)
        for number in range(2, 100):
            await stream.send(b"%d" % number)
        await stream.send(b"100", last=True)
        assert [m async for m in stream] == [b"5050"]


async def test_streams_both_ways_of_more_than_any_credit(address: str) -> None:
    chunks = [os.urandom(64 << 10) for _ in range(80)]
    async with served() as made, channel_to(made, made.server.listen(address)) as channel:
        stream = await channel.stream("/echo", chunks[0], last=False)

        async def send() -> None:
            for chunk in chunks[1:]:
                await stream.send(chunk)
            await stream.send(b"", last=True)

        sending = asyncio.ensure_future(send())
        got = [m async for m in stream]
        await sending
        assert got == [*chunks, b""]


async def test_a_stream_that_is_not_read_fills_its_credit_and_no_more(path: str) -> None:
    async with served() as made, channel_to(made, made.server.listen(path)) as channel:
        async with await channel.stream("/flood", b"") as stream:
            assert await channel.call("/echo", b"others go on") == b"others go on"
            assert made.node.begun == 5  # 60,016 bytes each, of 256 KiB
            for _ in range(20):
                await anext(stream)
        await made.node.until(lambda: made.node.cancelled == 1)
        assert len([m async for m in stream]) <= 5  # what had come before


async def test_a_call_that_its_caller_gives_up_is_cancelled_at_the_node(path: str) -> None:
    async with served(window=1) as made, channel_to(made, made.server.listen(path)) as channel:
        call = asyncio.ensure_future(channel.call("/hang", b""))
        await made.node.until(lambda: made.node.begun == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await made.node.until(lambda: made.node.cancelled == 1)
        assert await channel.call("/echo", b"the place is free again") != b""


async def test_one_that_waits_for_its_place_can_give_up_too(path: str) -> None:
    async with served(window=1) as made, channel_to(made, made.server.listen(path)) as channel:
        first = asyncio.ensure_future(channel.call("/gate", b"first"))
        await made.node.until(lambda: made.node.begun == 1)
        second, third = (asyncio.ensure_future(channel.call("/echo", b"%d" % n)) for n in (2, 3))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded):
            await channel.call("/echo", b"", 1)
        second.cancel()
        made.node.gate.set()
        assert await first == b"first"
        assert await third == b"3"


async def test_a_place_given_to_one_that_gave_up_goes_to_the_next(path: str) -> None:
    async with served(window=1) as made, channel_to(made, made.server.listen(path)) as channel:
        first = asyncio.ensure_future(channel.call("/gate", b"first"))
        await made.node.until(lambda: made.node.begun == 1)
        second, third = (asyncio.ensure_future(channel.call("/echo", b"%d" % n)) for n in (2, 3))
        await asyncio.sleep(0)
        give = channel._next

        def give_and_cancel() -> None:
            give()
            second.cancel()  # between the gift and its taking

        channel._next = give_and_cancel  # type: ignore[method-assign]
        made.node.gate.set()
        assert await first == b"first"
        assert await third == b"3"


async def test_a_deadline_ends_the_call_on_both_sides(path: str) -> None:
    async with served() as made, channel_to(made, made.server.listen(path)) as channel:
        with pytest.raises(DeadlineExceeded, match="20 ms"):
            await channel.call("/hang", b"", 20)
        await made.node.until(lambda: made.node.cancelled == 1)
        stream = await channel.stream("/hang", b"", 20)
        with pytest.raises(DeadlineExceeded):
            await anext(stream)
        await made.node.until(lambda: made.node.cancelled == 2)


async def test_a_node_that_keeps_no_deadline_is_told_to_stop() -> None:
    ours, theirs = memory_pair(asyncio.get_running_loop())
    heard: list[bytes] = []

    class Slow:
        def frames_received(self, frames: list[bytes]) -> None:
            heard.extend(frames)
            if frames[0][1:2] == bytes([wire.HELLO]):
                theirs.send([wire.pack_map(wire.WELCOME, wire.Welcome())])

        def connection_lost(self, error: object) -> None: ...
        def writing_paused(self) -> None: ...
        def writing_resumed(self) -> None: ...
        def framing_failed(self, error: object) -> None: ...

    theirs.start(Slow())
    channel = await FrameChannel.over(ours)
    with pytest.raises(DeadlineExceeded):
        await channel.call("/slow", b"", 5)
    while len(heard) < 3:
        await asyncio.sleep(0)
    assert wire.unpack_cancel(heard[-1]) == 3
    await channel.close()


async def test_the_node_ends_a_call_at_its_deadline_whatever_the_client_does(path: str) -> None:
    async with served() as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write(encode(wire.pack(3, 0, wire.CALL, 1, wire.pack_call(b"/hang", 10, b""))))
        body = await frame_from(reader)
        assert wire.HEADER.unpack_from(body)[1:5] == (4, 0, CODES["DEADLINE_EXCEEDED"], 1)
        writer.close()


async def test_a_client_that_vanishes_takes_its_calls_with_it(address: str) -> None:
    async with served() as made:
        at = made.server.listen(address)
        channel = await FrameChannel.connect(at, TOKEN)
        calls = [asyncio.ensure_future(channel.call("/hang", b"")) for _ in range(3)]
        stream = await channel.stream("/hang", b"")
        await made.node.until(lambda: made.node.begun == 4)
        channel.transport.abort()
        await made.node.until(lambda: made.node.cancelled == 4)
        for call in calls:
            with pytest.raises(Unreachable):
                await call
        with pytest.raises(Unreachable):
            await anext(stream)
        with pytest.raises(Unreachable):
            await channel.call("/echo", b"")
        with pytest.raises(Unreachable):
            await channel.stream("/echo", b"")
        await channel.close()
        while made.server.stats()["connections"]:
            await asyncio.sleep(0.001)


async def test_closing_answers_what_is_under_way_and_refuses_the_rest(path: str) -> None:
    async with served() as made:
        at = made.server.listen(path)
        channel = await FrameChannel.connect(at)
        idle = await FrameChannel.connect(at)
        call = asyncio.ensure_future(channel.call("/gate", b"answer"))
        await made.node.until(lambda: made.node.begun == 1)
        closing = asyncio.ensure_future(made.server.close(60))
        await asyncio.sleep(0)
        assert not Path(path.removeprefix("unix:")).exists()
        with pytest.raises(Unreachable):
            await FrameChannel.connect(at)
        with pytest.raises(NodeClosed, match="takes no more calls"):
            await channel.call("/echo", b"")
        with pytest.raises(Unreachable, match="closed the connection"):
            await idle.call("/echo", b"")
        made.node.gate.set()
        assert await call == b"answer"
        await closing
        await channel.close()
        await idle.close()


async def test_closing_cancels_what_does_not_end_in_time(path: str) -> None:
    async with served() as made:
        channel = await FrameChannel.connect(made.server.listen(path))
        call = asyncio.ensure_future(channel.call("/hang", b""))
        await made.node.until(lambda: made.node.begun == 1)
        await made.server.close(0.01)
        assert made.node.cancelled == 1
        with pytest.raises(Unreachable, match="closed the connection"):
            await call
        await channel.close()


async def test_over_memory() -> None:
    async with served() as made:
        channel = await FrameChannel.over(in_memory(made), TOKEN)
        assert await channel.call("/echo", b"x") == b"x"
        stream = await channel.stream("/count", b"3")
        assert [m async for m in stream] == [b"0", b"1", b"2"]
        await channel.close()


# What no client of ours does


async def connected(at: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if at.startswith("unix:"):
        return await asyncio.open_unix_connection(at.removeprefix("unix:"))
    host, _, port = at.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def frame_from(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(8), "little")
    return await reader.readexactly(size)


async def greeted(at: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await connected(at)
    writer.write(encode(wire.pack_map(wire.HELLO, Hello(token=TOKEN))))
    assert (await frame_from(reader))[1] == wire.WELCOME
    return reader, writer


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff" * 100,
        encode(b"short"),
        encode(wire.pack(wire.REQUEST, 0, wire.CALL, 1, wire.pack_call(b"/echo", 0, b""))),
        encode(wire.pack(wire.HELLO, 0, 0, 0, b"\xc1")),
        encode(b"\x02" + wire.pack_map(wire.HELLO, Hello())[1:]),
    ],
)
async def test_garbage_is_answered_by_an_error_frame_and_a_close(
    address: str, garbage: bytes
) -> None:
    async with served() as made:
        reader, writer = await connected(made.server.listen(address))
        writer.write(garbage)
        if len(garbage) < 12:
            writer.write_eof()
        frames = FrameDecoder(1 << 20).receive(await reader.read())
        if frames:
            assert frames[-1] == b""
            refusal = wire.greeting(wire.Refusal, frames[-2])
            assert (frames[-2][1], refusal.version) == (wire.ERROR, 1)
        else:
            assert len(garbage) < 12
        writer.close()
        assert made.reports == []
        assert made.node.deadlines == []


async def test_a_connection_without_hello_is_closed(path: str) -> None:
    async with served(hello_timeout_s=0.02) as made:
        reader, writer = await connected(made.server.listen(path))
        frames = FrameDecoder(1 << 20).receive(await reader.read())
        assert "no hello within 0.02 s" in wire.greeting(wire.Refusal, frames[0]).message
        writer.close()


async def test_connections_are_bounded(path: str) -> None:
    async with served(connections=2) as made:
        at = made.server.listen(path)
        first, second = [await FrameChannel.connect(at) for _ in range(2)]
        with pytest.raises(NodeBusy, match="2 connections"):
            await FrameChannel.connect(at)
        await first.close()
        while made.server.stats()["connections"] == 2:
            await asyncio.sleep(0.001)
        third = await FrameChannel.connect(at)
        assert await third.call("/echo", b"x") == b"x"
        assert made.server.stats()["refused"] == 1
        await second.close()
        await third.close()


def requests(path: bytes, payload: bytes, ids: range) -> bytes:
    body = wire.pack_call(path, 0, payload)
    return encode_many([wire.pack(wire.REQUEST, 0, wire.CALL, i, body) for i in ids])


async def test_requests_beyond_the_window_wait_unread(path: str) -> None:
    async with served(window=4) as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write(requests(b"/gate", b"", range(1, 41, 2)))
        await made.node.until(lambda: made.node.begun == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert made.node.begun == 4
        assert made.server.stats()["calls"] == 4
        made.node.gate.set()
        answered = {wire.HEADER.unpack_from(await frame_from(reader))[4] for _ in range(20)}
        assert answered == set(range(1, 41, 2))
        writer.close()


async def test_a_full_window_still_hears_cancels(path: str) -> None:
    async with served(window=2) as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write(requests(b"/hang", b"", range(1, 5, 2)))
        await made.node.until(lambda: made.node.begun == 2)
        writer.write(encode(wire.pack_cancel(3)))
        body = await frame_from(reader)
        assert wire.HEADER.unpack_from(body)[3:5] == (CODES["CANCELLED"], 3)
        writer.close()


async def test_a_call_cancelled_before_its_first_step_is_answered_too(path: str) -> None:
    async with served() as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write(requests(b"/hang", b"", range(1, 2)) + encode(wire.pack_cancel(1)))
        body = await frame_from(reader)
        assert wire.HEADER.unpack_from(body)[3:5] == (CODES["CANCELLED"], 1)
        assert made.node.begun == 0
        writer.close()


async def test_a_handler_may_answer_by_a_future(path: str) -> None:
    async with served() as made:
        made.server.listen(path)
        for end, wanted in (
            (lambda f: f.set_result(b"done"), b"done"),
            (lambda f: f.set_exception(NotFound("no such thing")), NotFound),
            (lambda f: f.cancel(), SpearError),
        ):
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            made.node.call = lambda *_, future=future: future  # type: ignore[method-assign]
            made.server._serving = made.server._serving._replace(handler=made.node)
            async with channel_to(made, path) as fresh:
                call = asyncio.ensure_future(fresh.call("/future", b""))
                while not made.server.stats()["calls"]:
                    await asyncio.sleep(0)
                end(future)
                if isinstance(wanted, bytes):
                    assert await call == wanted
                else:
                    with pytest.raises(wanted):
                        await call


async def test_bytes_in_flight_are_bounded(path: str) -> None:
    async with served(inflight_bytes_max=100_000) as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write(requests(b"/gate", bytes(40_000), range(1, 21, 2)))
        await made.node.until(lambda: made.node.begun == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert made.node.begun == 3
        made.node.gate.set()
        for _ in range(10):
            await frame_from(reader)
        writer.close()


async def test_who_does_not_read_its_answers_gets_no_more_of_them(path: str) -> None:
    async with served() as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        (connection,) = made.server._connections
        writer.write(requests(b"/echo", bytes(100_000), range(1, 401, 2)))
        while not connection.write_paused:
            await asyncio.sleep(0)
        calls = len(made.node.deadlines)
        assert calls < 60, "about 1 MiB, and what the kernel holds"
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(made.node.deadlines) <= calls + 3  # what one read had brought
        for _ in range(200):
            assert len(await frame_from(reader)) == 100_016
        writer.close()


async def test_who_never_reads_is_given_up(path: str) -> None:
    async with served(stall_s=0.05) as made:
        made.server.listen(path)
        _, writer = await greeted(path)
        writer.write(requests(b"/echo", bytes(100_000), range(1, 401, 2)))
        while made.server.stats()["connections"]:
            await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_operations_of_agents_are_not_for_clients(path: str) -> None:
    async with served() as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write(encode(wire.pack(wire.REQUEST, 0, 17, 1, b"\x80")))
        body = await frame_from(reader)
        assert wire.HEADER.unpack_from(body)[3:5] == (CODES["UNIMPLEMENTED"], 1)
        writer.close()


async def test_a_frame_beyond_the_limit_is_refused_by_its_length_alone(path: str) -> None:
    async with served(frame_bytes_max=1 << 16) as made:
        made.server.listen(path)
        reader, writer = await greeted(path)
        writer.write((1 << 40).to_bytes(8, "little"))
        error = await frame_from(reader)
        assert "limit is 65536" in wire.greeting(wire.Refusal, error).message
        assert await reader.read() == bytes(8)
        writer.close()


async def test_heartbeats_keep_a_connection_and_silence_ends_it() -> None:
    async with served(heartbeat_ms=10) as made:
        at = made.server.listen("127.0.0.1:0")
        async with channel_to(made, at) as channel:
            await asyncio.sleep(0.1)  # many intervals, with nothing else said
            assert await channel.call("/echo", b"alive") == b"alive"
            reader, writer = await greeted(at)
            data = await reader.read()  # heartbeats, then the end
            kinds = {frame[1] for frame in FrameDecoder(1 << 16).receive(data) if frame}
            assert kinds == {wire.HEARTBEAT}
            writer.close()
            assert await channel.call("/echo", b"still alive") == b"still alive"


async def test_a_client_notices_a_silent_node() -> None:
    ours, theirs = memory_pair(asyncio.get_running_loop())

    class Mute:
        """Says welcome, then nothing."""

        def frames_received(self, frames: list[bytes]) -> None:
            if frames[0][1:2] == bytes([wire.HELLO]):
                theirs.send([wire.pack_map(wire.WELCOME, wire.Welcome(heartbeat_ms=5))])

        def connection_lost(self, error: object) -> None: ...
        def writing_paused(self) -> None: ...
        def writing_resumed(self) -> None: ...
        def framing_failed(self, error: object) -> None: ...

    theirs.start(Mute())
    channel = await FrameChannel.over(ours)
    with pytest.raises(Unreachable, match="no heartbeats"):
        await channel.call("/echo", b"")
    await channel.close()


# Addresses


async def test_a_socket_is_its_owner_s_alone_and_goes_with_the_server(path: str) -> None:
    file = Path(path.removeprefix("unix:"))
    async with served() as made:
        made.server.listen(path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.exists()


async def test_a_socket_left_by_a_dead_node_is_replaced_a_live_one_is_not(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path.removeprefix("unix:"))
    async with served() as made:
        made.server.listen(path)
        with pytest.raises(AlreadyExists, match="is a node running"):
            made.server.listen(path)
        async with channel_to(made, path) as channel:
            assert await channel.call("/echo", b"x") == b"x"


async def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    file = Path(path.removeprefix("unix:"))
    file.write_text("mine")
    async with served() as made:
        with pytest.raises(Unreachable, match="cannot listen"):
            made.server.listen(path)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "host", "host:", ":80", "host:port", "host:65536", "unix:" + "x" * 108,
     "unix:a\0b", "host:-1", "host:٣"],
)  # fmt: skip
async def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="address"):
        await FrameChannel.connect(text)


async def test_nobody_there(path: str) -> None:
    for address in (path, "127.0.0.1:1"):
        with pytest.raises(Unreachable, match="no node answers at"):
            await FrameChannel.connect(address)


async def test_a_request_that_no_frame_holds_is_refused_here(path: str) -> None:
    async with served() as made, channel_to(made, made.server.listen(path)) as channel:
        with pytest.raises(InvalidArgument, match="as a stream"):
            await channel.call("/echo", bytes(64 << 20))
        assert await channel.call("/echo", b"goes on") == b"goes on"

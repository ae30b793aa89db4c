"""The HTTP client of models: what it sends, keeps, refuses, and how it ends a request."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import warnings

import pytest
import trustme
from manual_clock import ManualClock

from spear.clock import Clock
from spear.errors import (
    InvalidArgument,
    ModelGarbled,
    ModelTimeout,
    ModelUnavailable,
)
from spear.hostcalls.llm.http import client as http_client
from spear.hostcalls.llm.http.client import HttpClient, address_of
from spear.hostcalls.llm.http.connection import Connection
from spear.hostcalls.llm.http.response import HEAD_BYTES_MAX, Response
from tests.fakes.raw import CLOSE, RESET, RawServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HANG = b""


def client_of(server: RawServer, **settings: int) -> HttpClient:
    return HttpClient(f"{server.url}/base/", Clock(), {"x-own": "1"}, **settings)


async def ask(client: HttpClient, *, bytes_max: int = 1000, in_ns: int = 0) -> bytes:
    deadline_ns = Clock().monotonic_ns() + in_ns if in_ns else 0
    request = client.request("POST", "/path", b"{}", deadline_ns=deadline_ns, bytes_max=bytes_max)
    async with request as exchange:
        return await exchange.body()


async def test_a_request_is_whole_and_its_connection_is_used_again() -> None:
    async with RawServer(OK, OK, OK) as server:
        client = client_of(server)
        assert [await ask(client) for _ in range(3)] == [b"ok"] * 3
        await client.close()
        assert server.connections == 1
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /base/path HTTP/1.1\r\nhost: 127.0.0.1:")
        assert {b"x-own: 1", b"content-length: 2", b"accept-encoding: identity"} <= set(
            head.split(b"\r\n")
        )
        assert body == b"{}"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (CHUNKED + b"2\r\nok\r\n0\r\nTrailer: x\r\n\r\n", b"ok"),
    ],
)
async def test_bodies_of_every_form_are_read_and_leave_the_connection_usable(
    answer: bytes, body: bytes
) -> None:
    async with RawServer(answer, OK) as server:
        client = client_of(server)
        assert await ask(client) == body
        assert await ask(client) == b"ok"
        assert server.connections == 1
        await client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nok" + CLOSE,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"more",
        OK + OK,
    ],
    ids=["until the end", "says close", "HTTP/1.0", "more bytes", "a second answer"],
)
async def test_a_connection_that_cannot_be_used_again_is_not(answer: bytes) -> None:
    async with RawServer(answer, OK) as server:
        client = client_of(server)
        assert await ask(client) == b"ok"
        assert await ask(client) == b"ok"
        assert server.connections == 2
        await client.close()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (CLOSE, ModelUnavailable, "before an answer"),
        (RESET, ModelUnavailable, "before an answer"),
        (b"HTTP/1.1 200 O" + CLOSE, ModelGarbled, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok" + CLOSE, ModelGarbled, "broke off"),
        (CHUNKED + b"2\r\nok\r\n" + CLOSE, ModelGarbled, "broke off"),
        (CHUNKED + b"2\r\nok\r\n" + RESET, ModelGarbled, "broke off"),
        (b"SSH-2.0-OpenSSH_9\r\n", ModelGarbled, "not HTTP"),
        (CHUNKED + b"zz\r\n", ModelGarbled, "not HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
         ModelGarbled, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
         ModelGarbled, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
         ModelGarbled, "compressed"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 300_000, ModelGarbled, "headers are longer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, ModelGarbled, "headers are longer"),
        (CHUNKED + b"2\r\nok\r\n0\r\nA: " + b"a" * 600_000, ModelGarbled, "longer than|larger"),
        (CHUNKED + b"7d0\r\n" + b"x" * 2000, ModelGarbled, "larger than 1000"),
    ],
)  # fmt: skip
async def test_damage_is_an_error_that_ends_the_connection(
    answer: bytes, error: type[Exception], words: str
) -> None:
    async with RawServer(answer) as server:
        client = client_of(server)
        with pytest.raises(error, match=words):
            await ask(client, bytes_max=1000 if b"7d0" in answer else 10**9)
        await client.close()


async def test_nothing_listens() -> None:
    async with RawServer() as server:
        client = client_of(server)
    with pytest.raises(ModelUnavailable, match="no connection to 127"):
        await ask(client)


async def test_a_request_ends_at_its_deadline_and_takes_its_connection_with_it() -> None:
    async with RawServer(HANG, CHUNKED + b"2\r\nok\r\n") as server:
        client = client_of(server)
        for _ in range(2):
            with pytest.raises(ModelTimeout, match="no whole answer came"):
                await ask(client, in_ns=50_000_000)
            await server.ended.acquire()
        assert client.connections == 0


async def test_a_deadline_that_has_passed_asks_nothing() -> None:
    async with RawServer() as server:
        client = client_of(server)
        with pytest.raises(ModelTimeout, match="passed"):
            await ask(client, in_ns=-1)
        assert server.connections == 0


@pytest.mark.parametrize("answer", [HANG, CHUNKED + b"2\r\nok\r\n"])
async def test_a_caller_that_is_cancelled_closes_its_connection(answer: bytes) -> None:
    async with RawServer(answer) as server:
        client = client_of(server)
        task = asyncio.create_task(ask(client))
        await server.asked.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended.acquire()
        assert client.connections == 0


async def test_closing_fails_what_is_under_way_and_lets_all_connections_go() -> None:
    async with RawServer(OK, HANG) as server:
        client = client_of(server)
        await ask(client)
        task = asyncio.create_task(ask(client))
        await server.asked.acquire()
        await server.asked.acquire()
        await client.close()
        with pytest.raises(ModelUnavailable, match="closed"):
            await task
        with pytest.raises(ModelUnavailable, match="closed"):
            await ask(client)
        await server.ended.acquire()


async def test_a_connection_that_waits_too_long_is_closed() -> None:
    async with RawServer(OK, OK) as server:
        client = client_of(server, idle_ns=1)
        await ask(client)
        await server.ended.acquire()
        assert client.connections == 0
        assert await ask(client) == b"ok"
        await client.close()


async def test_an_answer_that_nobody_asked_for_closes_the_connection() -> None:
    async with RawServer(OK, OK) as server:
        client = client_of(server)
        await ask(client)
        (connection,) = client._idle
        connection.data_received(OK)
        assert connection.closing
        assert await ask(client) == b"ok"
        assert server.connections == 2
        await client.close()


async def test_enough_keeps_the_connection_once_the_end_is_there() -> None:
    async with RawServer(CHUNKED + b"2\r\nok\r\n", OK) as server:
        client = client_of(server)
        async with client.request("POST", "/path", b"{}") as exchange:
            assert await exchange.read() == b"ok"
            exchange.enough()
        assert client.connections == 1
        (connection,) = client._leaving
        connection.data_received(b"0\r\n\r\n")
        assert await ask(client) == b"ok"
        assert server.connections == 1
        await client.close()


class Transport:
    """Keeps what a connection asks of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def write(self, data: bytes) -> None:
        pass

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")


async def test_a_slow_reader_stops_the_server() -> None:
    connection, transport = Connection(lambda connection: None), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.begin(b"", 10**9)
    connection.data_received(CHUNKED)
    for _ in range(9):
        connection.data_received(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    assert transport.asked == ["pause"]
    assert len(await connection.read()) == 9 * 0x8000
    assert transport.asked == ["pause", "resume"]
    connection.data_received(b"0\r\n\r\n")
    assert await connection.read() == b""


class Scarce(Clock):
    """Its time is up once a connection is there."""

    def __init__(self) -> None:
        self.asked = 0

    def monotonic_ns(self) -> int:
        self.asked += 1
        return 0 if self.asked == 1 else 10**12


async def test_a_deadline_that_passes_while_it_connects_ends_the_request() -> None:
    async with RawServer(OK) as server:
        client = HttpClient(server.url, Scarce(), {})
        with pytest.raises(ModelTimeout):
            async with client.request("GET", "/", deadline_ns=10**9):
                raise AssertionError("it began")
        await client.close()
        await server.ended.acquire()
        assert (client.connections, server.requests) == (0, [])


def test_a_deadline_counts_however_far_it_is() -> None:
    client, hour_ns = HttpClient("http://h", ManualClock(), {}), 3600 * 10**9
    assert client.left_ns(ManualClock().monotonic_ns() + hour_ns) == hour_ns


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_verified(trusted: bool) -> None:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_tls)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(OK)
        await reader.read()  # until the client has gone
        writer.close()

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context()
        if trusted:
            authority.configure_trust(made)
        return made

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    client = HttpClient(url, Clock(), {}, tls=context)
    try:
        if trusted:
            assert await ask(client) == b"ok"
        else:
            with pytest.raises(ModelUnavailable, match="certificate"):
                await ask(client)
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "url",
    ["", "localhost:1", "ftp://h", "http://", "http://u:secret@h", "http://h?key=secret",
     "http://h#x", "http://h:99999", "http://h/ä", "http://h/a b", "http://h/\r\nx: y"],
)  # fmt: skip
def test_addresses_that_cannot_be_used_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        address_of(url)
    assert "secret" not in str(caught.value)


def test_addresses_are_taken_apart() -> None:
    found = address_of("https://[::1]:8443/v1/")
    assert (found.host, found.port, found.tls) == ("::1", 8443, True)
    assert (found.authority, found.path) == ("[::1]:8443", "/v1")
    assert address_of("http://a").port == 80


@pytest.mark.parametrize("value", ["secret\r\nx: y", "schlüsselsecret", "secret\x00"])
def test_headers_that_no_request_can_carry_are_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        HttpClient("http://h", Clock(), {"authorization": value})
    assert "secret" not in str(caught.value)


def test_a_client_goes_on_with_another_loop() -> None:
    """A library's agents are answered by another loop once the one that served is closed."""
    ready, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with RawServer(OK, OK) as server:
            urls.append(server.url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        client = HttpClient(urls[0], Clock(), {})
        assert asyncio.run(ask(client)) == b"ok"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of what closed loops left
            assert asyncio.run(ask(client)) == b"ok"
            assert client.connections == 1
            asyncio.run(client.close())
            del client
            gc.collect()
    finally:
        over.set()
        thread.join()


class Tank:
    """A sink with room for `room` bytes at a time, which it empties when it is waited for."""

    def __init__(self, room: int, enough: int = 1 << 30) -> None:
        self.room_bytes, self.enough = room, enough
        self.held = self.waits = 0
        self.taken: list[bytes] = []
        self.asked = asyncio.Event()
        self.emptied = asyncio.Event()

    @property
    def done(self) -> bool:
        return sum(map(len, self.taken)) >= self.enough

    def take(self, data: bytes) -> bool:
        assert self.held < self.room_bytes, "it was given more than it has room for"
        self.taken.append(data)
        self.held += len(data)
        return self.held < self.room_bytes and not self.done

    async def room(self) -> None:
        self.waits += 1
        self.asked.set()
        await self.emptied.wait()
        self.held = 0


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.paused = self.gone = False

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.gone

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.gone = True


def pouring(tank: Tank, size: int = 10**6) -> tuple[Connection, Wire, asyncio.Task[None]]:
    connection, wire = Connection(lambda _: None), Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    connection.begin(b"", 1 << 30)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    return connection, wire, asyncio.create_task(connection.pour(tank))


async def test_what_comes_goes_into_the_sink_at_once() -> None:
    connection, _, task = pouring(tank := Tank(100))
    connection.data_received(b"before")  # its task has not begun
    await asyncio.sleep(0)
    for piece in (b"a", b"bc"):
        connection.data_received(piece)
    assert (tank.taken, tank.waits) == ([b"before", b"a", b"bc"], 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    connection.data_received(b"late")
    assert len(tank.taken) == 3


async def test_a_sink_without_room_is_given_nothing_and_holds_the_peer_up() -> None:
    connection, wire, task = pouring(tank := Tank(2))
    await asyncio.sleep(0)
    connection.data_received(b"abc")
    connection.data_received(b"in the same turn")
    await tank.asked.wait()
    connection.data_received(bytes(300_000))
    assert tank.taken == [b"abc"]
    assert wire.paused
    tank.emptied.set()
    while len(tank.taken) < 2:
        await asyncio.sleep(0)
    assert tank.taken[1] == b"in the same turn" + bytes(300_000)
    assert not wire.paused
    task.cancel()


async def test_a_sink_that_is_done_ends_the_pouring() -> None:
    connection, _, task = pouring(tank := Tank(100, enough=3))
    await asyncio.sleep(0)
    connection.data_received(b"ab")
    await asyncio.sleep(0)
    assert not task.done()
    connection.data_received(b"c")
    connection.data_received(b"more")
    await task
    assert tank.taken == [b"ab", b"c"]


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_sink_raises_is_the_readers(waits: bool) -> None:
    """Whether its reader waits for more, or has not begun."""

    class Broken(Tank):
        def take(self, data: bytes) -> bool:
            raise ModelGarbled("no JSON")

    connection, _, task = pouring(Broken(1))
    if waits:
        await asyncio.sleep(0)
    connection.data_received(b"ab")
    with pytest.raises(ModelGarbled, match="no JSON"):
        await task


async def test_what_came_before_the_connection_broke_is_poured_first() -> None:
    connection, _, task = pouring(tank := Tank(2))
    await asyncio.sleep(0)
    connection.data_received(b"ab")
    connection.data_received(b"cd")
    connection.connection_lost(OSError("reset"))
    tank.emptied.set()
    with pytest.raises(ModelGarbled, match="broke off"):
        await task
    assert tank.taken == [b"ab", b"cd"]


async def test_the_end_of_the_body_ends_the_pouring_though_the_sink_wants_more() -> None:
    connection, _, task = pouring(tank := Tank(100), 4)
    await asyncio.sleep(0)
    connection.data_received(b"ab")
    connection.data_received(b"cd")
    await asyncio.wait_for(task, 5)
    assert tank.taken == [b"ab", b"cd"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (OSError("Multiple exceptions: [Errno 111] x, [Errno 101] y, [Errno 111] z"),
         "Connection refused; Network is unreachable"),
        (OSError("of its own"), "of its own"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)  # fmt: skip
def test_why_there_is_no_connection_is_said_in_words(error: OSError, words: str) -> None:
    assert http_client._plain(error) == words


class Aside:
    """Takes all reads that are only of x."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, data: bytes) -> bool:
        plain = not data.strip(b"1\r\nx")
        self.taken += len(data) * plain
        return plain

    def end(self) -> int:
        taken, self.taken = self.taken, 0
        return taken


class Aware(Tank):
    """Knows of who takes them."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.aside, self.asked_for = Aside(), list[int]()

    def straight(self, bytes_max: int) -> Aside:
        self.asked_for.append(bytes_max)
        return self.aside


X, Y = b"1\r\nx\r\n", b"1\r\ny\r\n"


async def poured(*reads: bytes) -> tuple[Aware, Connection]:
    """Into a sink, after the head of the answer."""
    connection, sink = Connection(lambda _: None), Aware()
    connection.connection_made(Wire())  # type: ignore[arg-type]
    connection.begin(b"", len(CHUNKED) + 100)
    connection.data_received(CHUNKED)
    task = asyncio.create_task(connection.pour(sink))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    for read in reads:
        connection.data_received(read)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sink, connection


async def test_what_is_taken_past_a_response_counts_for_its_limit() -> None:
    sink, connection = await poured(X, X, X, Y, X)
    assert sink.taken == [b"x", b"y"]  # nothing had come before the first one
    assert sink.asked_for == [100 - len(X), 100 - 4 * len(X)]
    assert connection.response is not None
    assert connection.response.received == len(CHUNKED + X * 4 + Y)


@pytest.mark.parametrize(
    "read", [X[:4], X + X[:1], X + b"1\r\n", b"1;a\r", X + X[:-1], X + b"0\r\n", X + b"0\r\n\r\n"]
)
async def test_nobody_takes_what_comes_in_the_midst_of_a_chunk(read: bytes) -> None:
    sink, _ = await poured(read)
    assert sink.asked_for == []


async def test_a_response_of_another_form_has_no_chunks_to_take() -> None:
    connection, sink = Connection(lambda _: None), Aware()
    connection.connection_made(Wire())  # type: ignore[arg-type]
    response = connection.begin(b"", 1000)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1\r\nx\r\n")
    assert not response.between
    assert sink.asked_for == []


async def test_a_sink_that_fails_is_not_asked_who_takes_the_rest() -> None:
    class Failing(Aware):
        def take(self, data: bytes) -> bool:
            raise ZeroDivisionError

    connection, sink = Connection(lambda _: None), Failing()
    connection.connection_made(Wire())  # type: ignore[arg-type]
    connection.begin(b"", 1000)
    connection.data_received(CHUNKED)
    task = asyncio.create_task(connection.pour(sink))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    connection.data_received(X)
    with pytest.raises(ZeroDivisionError):
        await task
    assert sink.asked_for == []


def test_what_was_taken_past_a_response_was_body() -> None:
    """Else the limit of what is none would count from before it."""
    response = Response(1 << 30)
    for read in (CHUNKED, X[:4], X[4:]):
        response.feed(read)
    response.passed_by(len(X))
    response.feed(b"1;" + b"a" * (HEAD_BYTES_MAX - 2))
    with pytest.raises(ModelGarbled, match="headers"):
        response.feed(b"a")

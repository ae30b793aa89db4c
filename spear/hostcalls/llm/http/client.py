"""Asks one model server over HTTP/1.1: connections kept alive, a bound on everything.

The rule: one request is one request: nothing is sent again, redirected, or taken through a proxy;
TLS is verified. A request ends at its deadline, and at once when its caller leaves, and takes its
connection with it unless the response was whole. Errors are ModelError kinds without a backend's
name, which the caller knows.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from urllib.parse import urlsplit

import msgspec

from spear.errors import (
    InvalidArgument,
    ModelGarbled,
    ModelTimeout,
    ModelUnavailable,
)
from spear.hostcalls.llm.http.connection import Connection
from spear.hostcalls.llm.http.pumping import Pumping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from spear.clock import Clock
    from spear.hostcalls.llm.http.connection import Sink
    from spear.hostcalls.llm.http.response import Response

ANSWER_BYTES_MAX = 16 * 1024**2
TIME_MAX_NS = 600 * 10**9  # of a request without a deadline
CONNECT_NS = 10 * 10**9
IDLE_NS = 4 * 10**9  # below the 5 s after which common servers close
IDLE_MAX = 64  # connections that wait for a request
_LINGER_NS = 10**9


class Address(msgspec.Struct, frozen=True):
    """Of a server, out of its base URL."""

    host: str
    port: int
    tls: bool
    authority: str  # as the Host header wants it
    path: str  # without a slash at its end


def address_of(base_url: str) -> Address:
    """Raises InvalidArgument, which does not repeat the URL: it may hold a password."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"base_url: {error}") from None
    plain = base_url.isascii() and base_url.isprintable() and " " not in base_url
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise InvalidArgument("base_url: expected http://HOST... or https://HOST... in plain ASCII")
    if "@" in parts.netloc or "?" in base_url or "#" in base_url:
        raise InvalidArgument("base_url: expected neither user, password, query nor fragment in it")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/")
    return Address(parts.hostname, port or (443 if tls else 80), tls, parts.netloc, path)


class HttpClient:
    """Of one server, on one event loop. `headers` go with every request; `tls` makes the context
    for https, by default one that trusts the system's authorities."""

    def __init__(
        self, base_url: str, clock: Clock, headers: Mapping[str, str], *,
        connect_ns: int = CONNECT_NS, idle_ns: int = IDLE_NS,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:  # fmt: skip
        self._address = address_of(base_url)
        self._clock, self._connect_ns, self._idle_ns = clock, connect_ns, idle_ns
        self._tls = tls
        self._context: ssl.SSLContext | None = None  # made at the first connection that needs it
        self._head = _head(self._address, headers)
        self._idle: dict[Connection, asyncio.TimerHandle] = {}  # the last used one is the last
        self._leaving: dict[Connection, asyncio.TimerHandle] = {}
        self._busy: set[Connection] = set()
        self._pumping = Pumping()
        self._closed = False

    @property
    def connections(self) -> int:
        return len(self._idle) + len(self._leaving) + len(self._busy)

    def request(
        self, method: str, path: str, body: bytes = b"", *, deadline_ns: int = 0,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Exchange:  # fmt: skip
        """`path` goes behind the base URL's. To be entered with `async with`."""
        return Exchange(self, self._request(method, path, body), deadline_ns, bytes_max)

    async def close(self) -> None:
        """Requests under way fail."""
        self._closed = True
        for connection in self._busy:
            connection.fail(ModelUnavailable("the backend is closed"))
        for connection in (*self._idle, *self._leaving):
            connection.abort()
        self._pumping.close()

    def left_ns(self, deadline_ns: int) -> int:
        """Raises ModelTimeout where nothing is left."""
        if not deadline_ns:
            return TIME_MAX_NS
        left_ns = deadline_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            raise ModelTimeout("the deadline has passed")
        return left_ns

    async def take(self, deadline_ns: int) -> Connection:
        """One that waits, else a new one. Raises ModelUnavailable, ModelTimeout."""
        if self._closed:
            raise ModelUnavailable("the backend is closed")
        left_ns = self.left_ns(deadline_ns)
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if not connection.closing:
                self._busy.add(connection)
                return connection
        return await self._connect(left_ns)

    def give_back(self, connection: Connection, near_end: bool) -> None:
        self._busy.discard(connection)
        if not self._closed and connection.release():
            self._keep(connection)
        elif near_end and not self._closed and connection.leave():
            timer = asyncio.get_running_loop().call_later(_LINGER_NS / 1e9, connection.abort)
            self._leaving[connection] = timer
        else:
            connection.drop()

    async def _connect(self, left_ns: int) -> Connection:
        where = f"{self._address.host}:{self._address.port}"
        wait_ns = min(left_ns, self._connect_ns)
        try:
            async with asyncio.timeout(wait_ns / 1e9):
                connection = await self._dial()
        except TimeoutError:
            if left_ns <= self._connect_ns:
                raise ModelTimeout(f"no connection to {where} before the deadline") from None
            raise ModelUnavailable(f"no connection to {where} in {wait_ns / 1e9:g} s") from None
        except OSError as error:  # TLS's errors among them
            raise ModelUnavailable(f"no connection to {where}: {_plain(error)}") from None
        if self._closed:
            connection.abort()
            raise ModelUnavailable("the backend is closed")
        self._busy.add(connection)
        return connection

    async def _dial(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._address.tls and self._context is None:  # tens of milliseconds
            self._context = await asyncio.to_thread(self._tls)
        address = self._address
        _, connection = await loop.create_connection(
            lambda: Connection(self._over, self._pumping),
            address.host,
            address.port,
            ssl=self._context,
        )
        return connection

    def _keep(self, connection: Connection) -> None:
        if len(self._idle) >= IDLE_MAX:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(self._idle_ns / 1e9, connection.abort)

    def _over(self, connection: Connection) -> None:
        """It is gone, or a response that was left has ended."""
        for where in (self._idle, self._leaving):
            if timer := where.pop(connection, None):
                timer.cancel()
        if not connection.closing and connection not in self._busy:
            self.give_back(connection, near_end=False)

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        target = f"{method} {self._address.path}{path} HTTP/1.1\r\n".encode()
        if not body:
            return target + self._head + b"\r\n"
        sized = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return b"".join((target, self._head, sized, body))


class Exchange:
    """A request and its response. Within `async with`, the head is there."""

    def __init__(
        self, client: HttpClient, request: bytes, deadline_ns: int, bytes_max: int
    ) -> None:
        self._client, self._request = client, request
        self._deadline_ns, self._bytes_max = deadline_ns, bytes_max
        self._near_end = False
        self.begun = False  # the server may have the request
        self._connection: Connection
        self._response: Response
        self._timer: asyncio.TimerHandle

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in lower case."""
        return self._response.headers

    async def __aenter__(self) -> Exchange:
        self._connection = connection = await self._client.take(self._deadline_ns)
        try:
            left_ns = self._client.left_ns(self._deadline_ns)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(left_ns / 1e9, self._late)
            self.begun = True
            self._response = connection.begin(self._request, self._bytes_max)
            await connection.head()
            encoding = self.headers.get("content-encoding", "identity")
            if encoding != "identity":
                raise ModelGarbled("the answer is compressed, which was not asked for")
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self._leave()

    def read(self) -> Coroutine[Any, Any, bytes]:
        """Some of the body; empty at its end. Raises ModelError."""
        return self._connection.read()

    async def body(self) -> bytes:
        """All of it, which may be less than what a stream may bring. Raises ModelError."""
        body = await self.read()
        if self._response.complete and not self._response.buffered:
            return body
        whole = bytearray(body)
        while piece := await self.read():
            whole += piece
            if len(whole) > ANSWER_BYTES_MAX:
                raise ModelGarbled(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
        return bytes(whole)

    def pour(self, sink: Sink) -> Coroutine[Any, Any, None]:
        """All of the body goes into the sink as it comes, until that is done. Raises ModelError,
        and what the sink raises."""
        return self._connection.pour(sink)

    def enough(self) -> None:
        """All that matters was read: the connection may still be kept for another request."""
        self._near_end = True

    def _late(self) -> None:
        self._connection.fail(ModelTimeout("no whole answer came before the deadline"))

    def _leave(self) -> None:
        if hasattr(self, "_timer"):
            self._timer.cancel()
        self._client.give_back(self._connection, self._near_end)


def _plain(error: OSError) -> str:
    """In the system's words; where several addresses were tried, of each."""
    if type(error).__module__ != "builtins":  # TLS's and the resolver's have numbers of their own
        return error.strerror or str(error)
    found = [error.errno] if error.errno else map(int, re.findall(r"\[Errno (\d+)\]", str(error)))
    return "; ".join(dict.fromkeys(map(os.strerror, found))) or str(error)


def _head(address: Address, headers: Mapping[str, str]) -> bytes:
    """Raises InvalidArgument, which does not repeat a value: it may be a credential."""
    own = {
        "host": address.authority,
        "user-agent": "spear",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
    }
    lines = []
    for name, value in {**own, **headers}.items():
        if not value.isascii() or not value.isprintable():
            raise InvalidArgument(f"the value of the header {name} is not printable ASCII")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()

"""Addresses, and the sockets behind them: connecting, listening, who the peer is.

The rule: an address is `unix:PATH` or `HOST:PORT`. A Unix socket is its owner's alone before anyone
can connect to it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from typing import Any, Final, NamedTuple

from spear.errors import AlreadyExists, InvalidArgument, Unreachable
from spear.units import is_utf8

Socket = socket.socket
BACKLOG: Final = 1024
_CREDENTIALS: Final = struct.Struct("iII")
_PATH_BYTES_MAX: Final = 107  # of the system's address, without its end


class Address(NamedTuple):
    """`path` of a Unix socket, else `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Credentials(NamedTuple):
    """Of the process at the other end of a Unix socket, as the system says."""

    pid: int
    uid: int
    gid: int


def parse(text: str) -> Address:
    """Raises InvalidArgument."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not is_utf8(path):  # a node tells its clients where it answers
            raise InvalidArgument(f"address {text!r}: the path is not UTF-8")
        if not path or "\0" in path or len(path.encode()) > _PATH_BYTES_MAX:
            raise InvalidArgument(
                f"address {text!r}: a socket's path has 1 to {_PATH_BYTES_MAX} bytes"
            )
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise InvalidArgument(f"address {text!r}: accepted are unix:PATH and HOST:PORT")
    return Address(host=host, port=int(port))


async def connect(address: Address) -> socket.socket:
    """A connected, non-blocking socket. Raises Unreachable."""
    loop = asyncio.get_running_loop()
    sock: socket.socket | None = None
    try:
        sock, target = await _socket_for(loop, address)
        sock.setblocking(False)
        await loop.sock_connect(sock, target)
        if not address.path:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except OSError as error:
        if sock is not None:
            sock.close()
        raise Unreachable(f"no node answers at {address}: {reason_of(error)}") from error
    except BaseException:
        if sock is not None:
            sock.close()
        raise


def reason_of(error: OSError) -> str:
    """As the system says it, without what asyncio says around it."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


async def _socket_for(
    loop: asyncio.AbstractEventLoop, address: Address
) -> tuple[socket.socket, Any]:
    if address.path:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), address.path
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, target = found[0]
    return socket.socket(family, kind, protocol), target


def listen(address: Address) -> tuple[socket.socket, Address]:
    """A listening, non-blocking socket, and its address with the port that the system chose.

    A socket file that nobody listens at is replaced. Raises AlreadyExists where somebody does,
    Unreachable where the system refuses the address.
    """
    try:
        if address.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                _bind_path(sock, address.path)
            except BaseException:
                sock.close()
                raise
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            sock = socket.create_server((address.host, address.port), family=family,
                                        backlog=BACKLOG)  # fmt: skip
            address = Address(host=address.host, port=sock.getsockname()[1])
        sock.setblocking(False)
        return sock, address
    except OSError as error:
        raise Unreachable(f"cannot listen at {address}: {reason_of(error)}") from error


def _bind_path(sock: socket.socket, path: str) -> None:
    if _is_socket(path):
        if _answers(path):
            raise AlreadyExists(f"somebody listens at unix:{path} already: is a node running?")
        os.unlink(path)
    sock.bind(path)
    os.chmod(path, 0o600)  # before `listen` nobody can connect
    sock.listen(BACKLOG)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # it is busy, or not ours to judge
        return True


def credentials(sock: socket.socket) -> Credentials | None:
    """Of the peer; None where the system does not know, as over TCP."""
    if sock.family != socket.AF_UNIX:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(raw))


def accept(sock: socket.socket) -> tuple[socket.socket, str]:
    """The next connection, non-blocking, and where it comes from. Raises OSError."""
    made, source = sock.accept()
    made.setblocking(False)
    if made.family == socket.AF_UNIX:
        return made, "unix"
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made, f"{source[0]}:{source[1]}"

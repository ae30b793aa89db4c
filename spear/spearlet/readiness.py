"""How a daemon tells that it is ready: a line on stdout, a ports file, systemd.

The rule: each place is told of the socket at once, and of gRPC when that answers too. A ports file
is replaced as a whole, so who reads it finds all of one moment.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from spear.errors import InvalidArgument

STDOUT = 1


class Readiness:
    """Tells of the doors as they open. `ports_file` and `notify_socket` may be empty.

    The ports file is one JSON object: `pid`; `socket`, a path; as soon as they are served `frames`
    and `grpc`, each HOST:PORT with the port that was bound.
    """

    def __init__(self, pid: int, ports_file: str, notify_socket: str) -> None:
        self._ports_file, self._notify_socket = ports_file, notify_socket
        self._doors: dict[str, str | int] = {"pid": pid}

    def check(self) -> None:
        """Raises InvalidArgument where the ports file could not be written."""
        if self._ports_file:
            with self._written() as partial:
                os.unlink(partial)
                if os.path.isdir(self._ports_file):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def opened(self, door: str, address: str) -> None:
        """Raises InvalidArgument where the ports file cannot be written."""
        self._doors[door] = address
        if self._ports_file:
            with self._written() as partial:
                os.replace(partial, self._ports_file)
        say(f"spearlet ready: {door} {address}")

    def addresses(self) -> dict[str, str]:
        """Of the doors that are open now, as they were bound."""
        return {door: at for door, at in self._doors.items() if isinstance(at, str)}

    def note(self, sentence: str) -> None:
        say(f"spearlet: {sentence}")

    def all_opened(self) -> None:
        self._notify(b"READY=1")

    def stopping(self) -> None:
        self._notify(b"STOPPING=1")

    def close(self) -> None:
        """The doors are shut: nobody shall look for them."""
        if self._ports_file:
            try:
                os.unlink(self._ports_file)
            except OSError:
                return

    @contextmanager
    def _written(self) -> Iterator[str]:
        """A file beside it that holds what is known now."""
        partial = f"{self._ports_file}.{self._doors['pid']}"
        try:
            with open(partial, "wb") as file:
                file.write(msgspec.json.encode(self._doors) + b"\n")
            yield partial
        except OSError as error:
            raise InvalidArgument(
                f"cannot write the ports file {self._ports_file!r}: {error.strerror}"
            ) from error

    def _notify(self, state: bytes) -> None:
        """As sd_notify does; a supervisor that does not listen is no reason to fail."""
        if not self._notify_socket:
            return
        name = self._notify_socket
        address = "\0" + name[1:] if name.startswith("@") else name
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto(state, address)
            except OSError:
                return


def say(line: str) -> None:
    """A line on stdout; nobody there to read it is no error."""
    try:
        os.write(STDOUT, (line + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        return

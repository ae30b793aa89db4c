"""A guest on strings: it makes the descriptor calls a test asks for, one at a time.

Rule: what it is asked and what it answers goes over its user stream 0; see puppet.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from guest_runs import HANG_S, guest

from spear._core.executor import Executor
from spear.runtime.waiting import drive
from tests.reference import ssf

IN, OUT, ERR, HUP = 1, 4, 8, 16
ADD, MOD, DEL = 1, 2, 3
ENOMEM, EBADF, EAGAIN, EFAULT, EINVAL, ENOSPC = -12, -9, -11, -14, -22, -28
EPIPE, ENOTCONN = -32, -107
CALLS = ("", "epoll_create", "epoll_ctl", "epoll_wait", "epoll_close", "open", "read", "write",
         "close", "ctl_open", "ctl_read", "fd_ctl", "exit")  # fmt: skip
SET_FLAGS, GET_FLAGS, GET_KIND, GET_STATUS, GET_METRICS = range(1, 6)
ROOM = 1 << 16


@dataclass
class Answer:
    """What a call gave: its result, what it left in the length, and as many bytes."""

    value: int
    size: int
    data: bytes

    @property
    def records(self) -> list[tuple[int, int]]:
        """Of an epoll_wait or of stream events."""
        return list(struct.iter_unpack("<ii", self.data))


class Puppet:
    """Its own descriptors are 1000 and 1001; the next one it opens is 1002."""

    def __init__(self, node: Executor, **options: Any) -> None:
        options = {"timeout_ns": 20 * 10**9, **options}
        self.run = node.start(guest("puppet"), args=("puppet",), **options)
        self.strings = self.run.stream(0)

    def begin(self, call: str, *args: int, data: bytes = b"") -> None:
        """Asks, and does not wait for the answer."""
        numbers = (CALLS.index(call), *args, *[0] * (4 - len(args)))
        asked = struct.pack("<5I", *(number & 0xFFFFFFFF for number in numbers)) + data
        self.strings.send_nowait(ssf.frame(0, asked))

    def answer(self) -> Answer:
        frame = drive(self.strings.receive())
        assert frame is not None, self.run.wait(HANG_S) and (self.run.outcome, self.run.output)
        value, size = struct.unpack_from("<iI", frame, 32)
        return Answer(value, size, frame[40:])

    def ask(self, call: str, *args: int, data: bytes = b"") -> Answer:
        self.begin(call, *args, data=data)
        return self.answer()

    def __call__(self, call: str, *args: int, data: bytes = b"") -> int:
        """Only the result."""
        return self.ask(call, *args, data=data).value

    def wait(self, epfd: int, room: int = ROOM, timeout_ms: int = 0) -> list[tuple[int, int]]:
        found = self.ask("epoll_wait", epfd, room, timeout_ms)
        assert found.value == len(found.records)
        return found.records

    def told(self, fd: int, cmd: int) -> str:
        """What a GET command of fd_ctl writes."""
        return self.ask("fd_ctl", fd, cmd, ROOM).data.decode()

    def end(self) -> None:
        self("epoll_close", -1)  # it has opened its stream by then
        self.strings.close()
        assert self.run.wait(HANG_S)
        assert (self.run.outcome.exit_code, self.run.output) == (0, b"")

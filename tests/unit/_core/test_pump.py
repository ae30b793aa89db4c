"""Sockets that are read together: what goes where, and what becomes of ends, errors, leavers."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from spear._core.endpoints import Channel
from spear._core.outlets import Outlet
from spear._core.plainstream import PlainStream
from spear._core.pump import Pump, Tap

PLAIN = b'data: {"choices":[{"delta":{"content":"abc"}}]}\n\n'
CHUNK = b"%x\r\n%s\r\n" % (len(PLAIN), PLAIN)


class End:
    """A socket that a pump reads, its peer, and what came of it."""

    def __init__(self, pump: Pump) -> None:
        self.peer, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        self.pump, self.passed = pump, list[bytes]()
        self.ended, self.failed = list[OSError | None](), list[Exception]()
        self.tap = Tap(self.take, self.end, self.failed.append)
        pump.add(self.socket.fileno(), self.tap)

    def take(self, data: bytes) -> None:
        self.passed.append(data)

    def end(self, error: OSError | None) -> None:
        self.ended.append(error)

    def close(self) -> None:
        self.pump.remove(self.socket.fileno())
        self.socket.close()
        self.peer.close()


@pytest.fixture
def ends() -> Iterator[list[End]]:
    pump = Pump()
    made = [End(pump) for _ in range(3)]
    yield made
    for end in made:
        end.close()
    pump.close()


def test_each_that_has_something_is_read_once_a_turn(ends: list[End]) -> None:
    ends[0].peer.send(b"a" * 70_000)
    ends[2].peer.send(b"c")
    ends[0].pump.turn()
    assert [len(end.passed) for end in ends] == [1, 0, 1]
    assert ends[0].passed == [b"a" * 65_536]
    ends[0].pump.turn()
    ends[0].pump.turn()
    assert b"".join(ends[0].passed) == b"a" * 70_000
    assert (ends[1].passed, ends[2].passed) == ([], [b"c"])


def test_the_short_way_is_asked_first_and_what_it_takes_is_not_passed_on(ends: list[End]) -> None:
    outlet = Outlet(Channel(), [], lambda _: None, 16)
    way = ends[1].tap.straight = PlainStream(outlet)
    way.begin(1 << 20, 1 << 20)
    ends[1].peer.send(CHUNK)
    ends[1].pump.turn()
    ends[1].peer.send(CHUNK + b"0\r\n\r\n")
    ends[1].pump.turn()
    assert outlet.held == [b'{"type":"delta","content":"abc"}']
    assert ends[1].passed == [CHUNK + b"0\r\n\r\n"]
    assert way.end() == len(CHUNK)


def test_a_socket_at_its_end_is_told_once_and_read_no_more(ends: list[End]) -> None:
    ends[0].peer.send(b"last")
    ends[0].peer.close()
    for _ in range(3):
        ends[0].pump.turn()
    assert (ends[0].passed, ends[0].ended, len(ends[0].pump)) == ([b"last"], [None], 2)


def test_a_broken_socket_is_told_with_its_reason(ends: list[End]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    end = ends[0]
    end.pump.add(near.fileno(), end.tap)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closed by a reset
    far.close()
    end.pump.turn()
    assert (end.passed, end.failed) == ([], [])
    (error,) = end.ended
    assert isinstance(error, ConnectionResetError)
    assert str(error) == f"[Errno {errno.ECONNRESET}] {os.strerror(errno.ECONNRESET)}"
    near.close()
    listener.close()


def test_what_one_raises_is_told_to_it_alone(ends: list[End]) -> None:
    mistake = ValueError("mine")

    def broken(data: bytes) -> None:
        raise mistake

    odd = ends[1]
    odd.pump.remove(odd.socket.fileno())
    odd.pump.add(odd.socket.fileno(), Tap(broken, odd.end, odd.failed.append))
    for end in ends:
        end.peer.send(b"x")
    odd.pump.turn()
    odd.pump.turn()
    assert [end.passed for end in ends] == [[b"x"], [], [b"x"]]
    assert (odd.failed, odd.ended, len(odd.pump)) == ([mistake], [], 2)


def test_one_that_is_removed_by_what_another_brought_is_not_read(ends: list[End]) -> None:
    pump = ends[0].pump

    def remove_the_others(data: bytes) -> None:
        for end in ends[1:]:
            pump.remove(end.socket.fileno())

    pump.remove(ends[0].socket.fileno())
    pump.add(ends[0].socket.fileno(), Tap(remove_the_others, ends[0].end, ends[0].failed.append))
    ends[0].peer.send(b"x")
    pump.turn()
    for end in ends[1:]:
        end.peer.send(b"x")
    pump.turn()
    assert (ends[1].passed, ends[2].passed, len(pump)) == ([], [], 1)


def test_a_turn_may_close_the_pump(ends: list[End]) -> None:
    pump = ends[0].pump
    for end in ends:
        pump.remove(end.socket.fileno())
        pump.add(end.socket.fileno(), Tap(lambda _: pump.close(), end.end, end.failed.append))
        end.peer.send(b"x")
    pump.turn()
    assert len(pump) == 0
    assert all(end.failed == [] for end in ends)


def test_a_pump_that_was_closed_reads_nothing_and_takes_nobody(ends: list[End]) -> None:
    pump = ends[0].pump
    ends[0].peer.send(b"x")
    pump.close()
    pump.close()
    pump.turn()
    assert ends[0].passed == []
    with pytest.raises(OSError, match=os.strerror(9)):
        pump.add(ends[0].socket.fileno(), ends[0].tap)


def test_pumps_leave_no_descriptors_behind() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(10):
        Pump().close()
    for _ in range(10):
        Pump()
    assert count() == before

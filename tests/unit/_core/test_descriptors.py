"""A guest's descriptors: numbers, closing, epoll and fd_ctl, call by call."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from guest_runs import MS, ended, executor, guest
from puppets import (
    ADD,
    DEL,
    EBADF,
    EINVAL,
    ENOMEM,
    ENOSPC,
    ERR,
    GET_FLAGS,
    GET_KIND,
    GET_METRICS,
    GET_STATUS,
    HUP,
    IN,
    MOD,
    OUT,
    ROOM,
    SET_FLAGS,
    Puppet,
)  # fmt: skip

from spear._core.executor import Executor
from tests.reference import ssf

ALL = IN | OUT | ERR | HUP
FOREVER = -1


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def puppet(node: Executor) -> Iterator[Puppet]:
    made = Puppet(node, execution_id="0-1")
    yield made
    made.end()


# ---- numbers


def test_numbers_go_up_and_are_never_given_out_again(puppet: Puppet):
    assert [puppet("epoll_create"), puppet("open", 5, 3), puppet("ctl_open")] == [1002, 1003, 1004]
    assert [puppet("epoll_close", 1002), puppet("close", 1003), puppet("close", 1004)] == [0, 0, 0]
    assert puppet("epoll_create") == 1005


def test_a_closed_number_stays_known_and_may_be_closed_again(puppet: Puppet):
    epfd, fd = puppet("epoll_create"), puppet("open", 5, 3)
    assert puppet("close", fd) == puppet("close", fd) == 0
    assert puppet("epoll_close", epfd) == puppet("epoll_close", epfd) == 0
    assert puppet.told(fd, GET_KIND) == '{"kind":"UserStream"}'
    assert puppet.told(epfd, GET_KIND) == '{"kind":"Epoll"}'


@pytest.mark.parametrize("number", [-1, 0, 1, 999, 1002, 2**31 - 1, -(2**31)])
def test_an_unknown_number_is_refused_by_every_call(puppet: Puppet, number: int):
    for call in ("epoll_close", "close", "read", "ctl_read", "fd_ctl", "write", "epoll_wait"):
        assert puppet(call, number, 16, 16) == EBADF, call
    assert puppet("epoll_ctl", number, ADD, 1001, IN) == EBADF
    assert puppet("epoll_ctl", 1000, ADD, number, IN) == EBADF


def test_each_close_takes_only_its_own_kinds(puppet: Puppet):
    epfd, fd, ctl = puppet("epoll_create"), puppet("open", 5, 3), puppet("ctl_open")
    assert puppet("close", epfd) == puppet("epoll_close", fd) == puppet("epoll_close", ctl) == EBADF
    assert puppet("read", ctl, ROOM) == puppet("read", epfd, ROOM) == EBADF
    assert puppet("ctl_read", fd, ROOM) == puppet("epoll_wait", fd, 8) == EBADF


@pytest.mark.parametrize("call", ["read", "write", "ctl_read", "epoll_wait"])
def test_a_closed_descriptor_is_refused(puppet: Puppet, call: str):
    opened = {"ctl_read": ("ctl_open",), "epoll_wait": ("epoll_create",)}
    number = puppet(*opened.get(call, ("open", 5, 3)))
    puppet("epoll_close" if call == "epoll_wait" else "close", number)
    assert puppet(call, number, 16, 0) == EBADF


def test_so_many_may_be_open_and_one_more_when_one_was_closed(node: Executor):
    run = node.start(guest("fd_flood"), args=("fd_flood", "1"))
    assert ended(run).exit_code == 0, run.output
    assert run.output.split() == [b"1024", b"2023", str(ENOMEM).encode()]
    puppet = Puppet(node)
    numbers = [puppet("epoll_create") for _ in range(1022)]
    assert puppet("epoll_create") == puppet("open", 1, 3) == puppet("ctl_open") == ENOMEM
    assert puppet("epoll_close", numbers[7]) == 0
    assert puppet("open", 1, 3) == 2024 - 2 + 2
    puppet.end()


def test_a_million_numbers_are_given_out_and_then_no_more(node: Executor):
    run = node.start(guest("fd_flood"), timeout_ns=60_000 * MS)
    assert ended(run).exit_code == 0, run.output
    assert run.output.split() == [b"1048576", b"1049575", str(ENOMEM).encode()]


# ---- epoll


def test_what_was_asked_for_and_is_there_is_reported(puppet: Puppet):
    stream = puppet.run.stream(5)
    epfd, fd = puppet("epoll_create"), puppet("open", 5, 3)
    assert puppet("epoll_ctl", epfd, ADD, fd, ALL) == 0
    assert puppet.wait(epfd) == []
    stream.connect()
    assert puppet.wait(epfd) == [(fd, OUT)]
    stream.send_nowait(ssf.frame(5))
    assert puppet.wait(epfd) == [(fd, IN | OUT)]
    assert puppet("epoll_ctl", epfd, MOD, fd, IN | 0x7FFFFF00) == 0
    assert puppet.wait(epfd) == puppet.wait(epfd) == [(fd, IN)], "level triggered"
    puppet("read", fd, ROOM)
    assert puppet.wait(epfd) == []


@pytest.mark.parametrize(("end", "bit"), [("close", HUP), ("fail", ERR)])
def test_errors_and_hangups_are_reported_only_if_asked_for(puppet: Puppet, end: str, bit: int):
    stream = puppet.run.stream(5)
    epfd, fd = puppet("epoll_create"), puppet("open", 5, 3)
    stream.connect()
    getattr(stream, end)()
    puppet("epoll_ctl", epfd, ADD, fd, IN | OUT)
    assert puppet.wait(epfd) == []
    puppet("epoll_ctl", epfd, ADD, fd, ERR | HUP)
    assert puppet.wait(epfd) == [(fd, bit)]


def test_adding_again_overwrites_and_the_unwatched_are_nobodys_fault(puppet: Puppet):
    puppet.run.stream(5).connect()
    epfd, fd = puppet("epoll_create"), puppet("open", 5, 3)
    assert puppet("epoll_ctl", epfd, MOD, fd, OUT) == puppet("epoll_ctl", epfd, DEL, fd, 0) == 0
    assert puppet.wait(epfd) == []
    assert puppet("epoll_ctl", epfd, ADD, fd, OUT) == puppet("epoll_ctl", epfd, ADD, fd, IN) == 0
    assert puppet.wait(epfd) == []
    assert puppet("epoll_ctl", epfd, ADD, fd, OUT) == 0
    assert puppet.wait(epfd) == [(fd, OUT)]
    assert puppet("epoll_ctl", epfd, DEL, fd, OUT) == 0
    assert puppet.wait(epfd) == []


def test_an_epoll_watches_no_epoll(puppet: Puppet):
    epfd, other = puppet("epoll_create"), puppet("epoll_create")
    assert puppet("epoll_ctl", epfd, ADD, epfd, IN) == EINVAL
    assert puppet("epoll_ctl", epfd, ADD, other, IN) == EINVAL
    puppet("epoll_close", other)
    assert puppet("epoll_ctl", epfd, ADD, other, IN) == EINVAL
    assert puppet("epoll_ctl", other, ADD, 1001, IN) == EBADF
    assert puppet("epoll_ctl", 1001, ADD, 1001, IN) == EINVAL


@pytest.mark.parametrize("op", [0, 4, -1, 2**31 - 1])
def test_an_unknown_operation_is_refused(puppet: Puppet, op: int):
    assert puppet("epoll_ctl", 1000, op, 1001, IN) == EINVAL


def test_a_closed_descriptor_hangs_up_until_it_is_deleted(puppet: Puppet):
    epfd, fd, late = puppet("epoll_create"), puppet("open", 5, 3), puppet("open", 6, 3)
    puppet("epoll_ctl", epfd, ADD, fd, ALL)
    puppet("close", fd)
    puppet("close", late)
    assert puppet.wait(epfd) == puppet.wait(epfd, timeout_ms=FOREVER) == [(fd, HUP)]
    assert puppet("epoll_ctl", epfd, ADD, late, HUP) == 0, "a closed target may be added"
    assert puppet.wait(epfd) == [(fd, HUP), (late, HUP)]
    assert puppet("epoll_ctl", epfd, DEL, fd, 0) == 0
    assert puppet.wait(epfd) == [(late, HUP)]


def test_records_are_sorted_and_cut_at_the_room(puppet: Puppet):
    epfd = puppet("epoll_create")
    fds = [puppet("open", 9, 3) for _ in range(5)]
    for fd in (fds[3], fds[0], fds[4], fds[1], fds[2]):
        puppet("epoll_ctl", epfd, ADD, fd, OUT)
    puppet.run.stream(9).connect()
    assert puppet.wait(epfd) == [(fd, OUT) for fd in fds]
    for room, count in ((8, 1), (15, 1), (16, 2), (39, 4), (40, 5)):
        assert puppet.wait(epfd, room=room) == [(fd, OUT) for fd in fds[:count]]


@pytest.mark.parametrize("room", [0, 1, 7])
def test_room_for_no_record_is_refused_with_what_is_needed(puppet: Puppet, room: int):
    answer = puppet.ask("epoll_wait", 1000, room, FOREVER)
    assert (answer.value, answer.size) == (ENOSPC, 8)


def test_nothing_ready_gives_no_bytes(puppet: Puppet):
    epfd = puppet("epoll_create")
    for timeout_ms in (0, 1, 30):
        answer = puppet.ask("epoll_wait", epfd, 64, timeout_ms)
        assert (answer.value, answer.size) == (0, 0)


def test_a_thousand_are_watched_at_once(puppet: Puppet):
    epfd = puppet("epoll_create")
    stream = puppet.run.stream(9)
    fds = [puppet("open", 9, 1) for _ in range(1021)]
    for fd in fds:
        assert puppet("epoll_ctl", epfd, ADD, fd, IN) == 0
    assert puppet.wait(epfd) == []
    puppet.begin("epoll_wait", epfd, ROOM, FOREVER)
    stream.send_nowait(ssf.frame(9))
    assert [fd for fd, _ in puppet.answer().records] == fds


def test_watches_are_bounded_however_many_numbers_were_closed(node: Executor):
    puppet = Puppet(node)
    epfd = puppet("epoll_create")
    numbers = []
    for _ in range(4096):
        numbers.append(puppet("ctl_open"))
        puppet("close", numbers[-1])
    answers = [puppet("epoll_ctl", epfd, ADD, number, HUP) for number in numbers]
    assert answers == [0] * 4095 + [ENOMEM], "one is watched by the puppet's own"
    assert puppet("epoll_ctl", epfd, ADD, numbers[0], HUP) == 0
    puppet("epoll_ctl", epfd, DEL, numbers[0], 0)
    assert puppet("epoll_ctl", epfd, ADD, numbers[-1], HUP) == 0
    other = puppet("epoll_create")
    assert puppet("epoll_ctl", other, ADD, numbers[5], HUP) == ENOMEM
    puppet("epoll_close", epfd)
    assert puppet("epoll_ctl", other, ADD, numbers[5], HUP) == 0
    puppet.end()


# ---- waits and their end


@pytest.mark.parametrize(
    ("change", "mask"), [("connect", OUT), ("send_nowait", IN | OUT), ("fail", ERR), ("close", HUP)]
)
def test_a_wait_is_over_when_a_client_does_something(puppet: Puppet, change: str, mask: int):
    stream = puppet.run.stream(5)
    epfd, fd = puppet("epoll_create"), puppet("open", 5, 3)
    puppet("epoll_ctl", epfd, ADD, fd, mask)
    puppet.begin("epoll_wait", epfd, ROOM, FOREVER)
    getattr(stream, change)(*([ssf.frame(5)] if change == "send_nowait" else []))
    ((found, events),) = puppet.answer().records
    assert found == fd
    assert events & mask


def test_a_wait_is_over_when_all_clients_go(node: Executor):
    puppet = Puppet(node)
    epfd = puppet("epoll_create")
    puppet("epoll_ctl", epfd, ADD, 1001, HUP)
    puppet.begin("epoll_wait", epfd, ROOM, FOREVER)
    puppet.run.close_streams()
    assert ended(puppet.run).exit_code == 97, "it is woken, and cannot answer any more"


def test_room_for_the_guest_is_told(puppet: Puppet):
    stream = puppet.run.stream(5)
    stream.connect()
    epfd, fd = puppet("epoll_create"), puppet("open", 5, 2)
    puppet("epoll_ctl", epfd, ADD, fd, OUT)
    large = ssf.frame(5, bytes((256 << 10) - 32 - 20 - 32))
    while puppet("write", fd, data=large) == 0:
        pass
    assert puppet.wait(epfd) == []
    puppet.begin("epoll_wait", epfd, ROOM, FOREVER)
    assert stream.receive_nowait() == large
    assert puppet.answer().records == [(fd, OUT)]


@pytest.mark.parametrize("timeout_ms", [FOREVER, 10**6])
def test_a_wait_is_ended_by_cancel_and_by_the_deadline(node: Executor, timeout_ms: int):
    puppet = Puppet(node)
    puppet.begin("epoll_wait", puppet("epoll_create"), 8, timeout_ms)
    assert puppet.run.cancel("enough")
    assert ended(puppet.run).cause == "cancelled"
    short = Puppet(node, timeout_ns=50 * MS)
    assert ended(short.run).cause == "deadline"


def test_what_a_client_does_after_the_end_reaches_nobody(node: Executor):
    puppet = Puppet(node)
    stream = puppet.run.stream(5)
    puppet("open", 5, 3)
    stream.send_nowait(ssf.frame(5))
    puppet.run.cancel()
    ended(puppet.run)
    assert stream.state == "closed"
    stream.connect()
    stream.fail()
    stream.close()
    puppet.run.close_streams()
    assert puppet.run.stream(77).state == "closed"


def test_a_timeout_does_not_end_early(node: Executor):
    puppet = Puppet(node)
    epfd = puppet("epoll_create")
    assert puppet.wait(epfd, timeout_ms=60) == []
    puppet.end()
    assert puppet.run.outcome.duration_ns >= 60 * MS


# ---- fd_ctl


def test_flags_are_set_cleared_and_told(puppet: Puppet):
    epfd = puppet("epoll_create")
    assert puppet.told(epfd, GET_FLAGS) == '{"flags":[]}'
    assert puppet("fd_ctl", epfd, SET_FLAGS, data=b'{"set":["O_NONBLOCK","O_FAST"]}') == 0
    assert puppet.told(epfd, GET_FLAGS) == '{"flags":["O_NONBLOCK"]}'
    both = b'{"clear":["O_NONBLOCK"],"set":["O_NONBLOCK"]}'
    assert puppet("fd_ctl", epfd, SET_FLAGS, data=both) == 0
    assert puppet.told(epfd, GET_FLAGS) == '{"flags":[]}'
    puppet("epoll_close", epfd)
    assert puppet("fd_ctl", epfd, SET_FLAGS, data=b'{"set":["O_NONBLOCK"]}') == 0
    assert puppet.told(epfd, GET_FLAGS) == '{"flags":["O_NONBLOCK"]}'


def test_a_document_of_flags_has_a_limit(puppet: Puppet):
    document = b'{"set":["O_NONBLOCK"]}'
    assert puppet("fd_ctl", 1000, SET_FLAGS, data=document.ljust(4096)) == 0
    assert puppet("fd_ctl", 1000, SET_FLAGS, data=document.ljust(4097)) == EINVAL


def test_the_state_of_each_kind_is_told(puppet: Puppet):
    stream = puppet.run.stream(5)
    epfd, fd, ctl = puppet("epoll_create"), puppet("open", 5, 3), puppet("ctl_open")
    stream.send_nowait(ssf.frame(5))
    assert puppet.told(epfd, GET_STATUS) == (
        '{"kind":"Epoll","flags":[],"poll_mask":[],"closed":false}'
    )
    assert puppet.told(fd, GET_STATUS) == (
        '{"kind":"UserStream","flags":[],"poll_mask":["EPOLLIN","EPOLLOUT"],"closed":false}'
    )
    assert puppet.told(ctl, GET_STATUS) == (
        '{"kind":"UserStreamCtl","flags":[],"poll_mask":["EPOLLIN"],"closed":false}'
    )
    stream.fail()
    assert json.loads(puppet.told(fd, GET_STATUS))["poll_mask"] == ["EPOLLIN", "EPOLLERR"]
    puppet("close", fd)
    assert puppet.told(fd, GET_STATUS) == (
        '{"kind":"UserStream","flags":[],"poll_mask":["EPOLLHUP"],"closed":true}'
    )


def test_metrics_of_a_stream(puppet: Puppet):
    stream = puppet.run.stream(5)
    fd, out = puppet("open", 5, 3), puppet("open", 6, 2)
    frame = ssf.frame(5, b"abc")
    stream.send_nowait(frame)
    puppet("write", fd, data=frame)
    told = puppet.told(fd, GET_METRICS)
    expected = {
        "execution_id": "0-1", "stream_id": 5, "direction": "Bidi", "conn_state": "Connected",
        "inbound_len": 1, "inbound_bytes": 35, "max_inbound_bytes": 2 << 20,
        "outbound_len": 1, "outbound_bytes": 35, "max_outbound_bytes": 2 << 20,
        "max_frame_bytes": 256 << 10,
    }  # fmt: skip
    assert told == json.dumps(expected, separators=(",", ":"))
    waiting = json.loads(puppet.told(out, GET_METRICS))
    assert (waiting["direction"], waiting["conn_state"]) == ("Out", "Init")
    puppet("close", fd)
    closed = json.loads(puppet.told(fd, GET_METRICS))
    assert closed == expected | {
        "conn_state": "Closed", "inbound_len": 0, "inbound_bytes": 0, "outbound_len": 0,
        "outbound_bytes": 0,
    }  # fmt: skip


def test_metrics_of_the_other_kinds(puppet: Puppet):
    ctl = puppet("ctl_open")
    puppet.run.stream(5).connect()
    pending = json.loads(puppet.told(ctl, GET_METRICS))
    assert pending == {"execution_id": "0-1", "pending_len": 2, "max_pending": 1024}
    assert puppet.told(1000, GET_METRICS) == "{}"
    puppet("close", ctl)
    assert json.loads(puppet.told(ctl, GET_METRICS))["pending_len"] == 0


@pytest.mark.parametrize("cmd", [0, 6, -1])
def test_an_unknown_command_is_refused(puppet: Puppet, cmd: int):
    assert puppet("fd_ctl", 1000, cmd, ROOM) == EINVAL


def test_a_document_that_does_not_fit_says_its_size(puppet: Puppet):
    whole = puppet.told(1000, GET_KIND)
    answer = puppet.ask("fd_ctl", 1000, GET_KIND, len(whole) - 1)
    assert (answer.value, answer.size) == (ENOSPC, len(whole))
    assert puppet("fd_ctl", 1000, GET_KIND, len(whole)) == len(whole)

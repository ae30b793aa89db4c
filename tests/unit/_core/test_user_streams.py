"""User streams: states, directions, limits, control events, and both ends' errors."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator

import pytest
import wasm_asm as asm
from guest_runs import HANG_S, ended, engine, executor, guest
from puppets import (
    EAGAIN,
    EINVAL,
    ENOMEM,
    ENOSPC,
    ENOTCONN,
    EPIPE,
    GET_STATUS,
    ROOM,
    Puppet,
)

from spear._core.executor import Executor
from spear._core.streams import FRAME_BYTES, check_frame
from spear.errors import ChannelClosed, InvalidArgument, QueueFull
from spear.runtime.waiting import drive
from tests.reference import ssf

READ, WRITE, BOTH = 1, 2, 3
BIG = ssf.frame(5, bytes(64 << 10))  # 31 of them fill a queue


@pytest.fixture
def node() -> Iterator[Executor]:
    with executor() as made:
        yield made


@pytest.fixture
def puppet(node: Executor) -> Iterator[Puppet]:
    made = Puppet(node)
    yield made
    made.end()


def events(puppet: Puppet, ctl: int) -> list[tuple[int, int]]:
    """What is pending, without that of the puppet's own stream."""
    found = []
    while (answer := puppet.ask("ctl_read", ctl, 8)).value == 8:
        found.append(struct.unpack("<II", answer.data))
    assert answer.value == EAGAIN
    return [event for event in found if event != (0, 1)]


# ---- frames


def test_frames_are_what_the_plain_check_says():
    rng = random.Random(1)
    valid = 0
    for _ in range(4000):
        made = bytearray(ssf.frame(
            rng.choice((0, 1, 2**31 - 1, 2**32 - 1)), rng.randbytes(rng.randrange(20)),
            meta=rng.randbytes(rng.randrange(5)), header=rng.randbytes(rng.choice((0, 0, 8))),
        ))  # fmt: skip
        for _ in range(rng.choice((0, 0, 1, 2))):
            made[rng.randrange(min(32, len(made)))] = rng.choice((0, 1, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            made = made[: rng.randrange(len(made) + 1)]
        expected = ssf.stream_of(bytes(made))
        try:
            found = check_frame(made)
        except InvalidArgument:
            found = None
        assert found == expected, bytes(made)
        valid += found is not None
    assert 1000 < valid < 3900


def test_lengths_of_a_frame_are_added_without_a_wrap():
    wrapped = ssf.HEADER.pack(b"SPST", 1, 32, 2, 0, 1, 0, 2**32 - 1, 1)
    with pytest.raises(InvalidArgument, match="no SSF"):
        check_frame(wrapped)


def test_a_frame_has_a_limit():
    assert check_frame(ssf.frame(1, bytes(FRAME_BYTES - 32))) == 1
    with pytest.raises(InvalidArgument, match="262145 bytes"):
        check_frame(ssf.frame(1, bytes(FRAME_BYTES - 31)))


# ---- the guest's errors


@pytest.mark.parametrize(("stream_id", "direction"), [(-1, 3), (5, 0), (5, 4), (5, -1), (-1, 0)])
def test_a_wrong_id_or_direction_is_refused(puppet: Puppet, stream_id: int, direction: int):
    assert puppet("open", stream_id, direction) == EINVAL


def test_a_warm_instance_is_no_execution(node: Executor):
    rows = [("spear", "user_stream_open", "ii", "i"), ("spear", "user_stream_ctl_open", "", "i")]
    body = (
        asm.i32_const(0) + asm.i32_const(1) + asm.i32_const(3) + asm.call(0) + b"\x36\x02\x00"
        + asm.i32_const(4) + asm.call(1) + b"\x36\x02\x00"
    )  # fmt: skip
    body += b"".join(
        asm.i32_load(at) + asm.i32_const(ENOTCONN) + b"\x47" + asm.IF + asm.UNREACHABLE + asm.END
        for at in (0, 4)
    )
    instance = node.instantiate(engine().load(asm.module(rows, body)))
    instance.function("_start")()


@pytest.mark.parametrize(
    ("frame", "direction", "state", "answer"),
    [
        (b"SPST", BOTH, "connected", EINVAL),
        (ssf.frame(6), BOTH, "connected", EINVAL),
        (ssf.frame(5), READ, "connected", EINVAL),
        (ssf.frame(5), BOTH, "init", ENOTCONN),
        (ssf.frame(6), BOTH, "init", EINVAL),
        (ssf.frame(5), BOTH, "close", EPIPE),
        (ssf.frame(5), BOTH, "fail", EPIPE),
        (ssf.frame(5), WRITE, "connected", 0),
    ],
)
def test_what_a_write_answers(puppet: Puppet, frame, direction, state, answer):
    stream = puppet.run.stream(5)
    if state != "init":
        stream.connect()
    fd = puppet("open", 5, direction)
    if state in ("close", "fail"):
        getattr(stream, state)()
    assert puppet("write", fd, data=frame) == answer
    if answer == 0:
        assert stream.receive_nowait() == frame


def test_what_a_read_answers(puppet: Puppet):
    stream = puppet.run.stream(5)
    fd, out = puppet("open", 5, READ), puppet("open", 5, WRITE)
    assert puppet("read", fd, ROOM) == EAGAIN
    assert puppet("read", out, ROOM) == EINVAL
    frame = ssf.frame(5, b"abc")
    stream.send_nowait(frame)
    short = puppet.ask("read", fd, len(frame) - 1)
    assert (short.value, short.size) == (ENOSPC, len(frame))
    whole = puppet.ask("read", fd, len(frame))
    assert (whole.value, whole.data) == (len(frame), frame), "refused for its room, it was kept"
    assert puppet("read", fd, ROOM) == EAGAIN


def test_frames_that_are_there_can_be_read_after_the_client_went(puppet: Puppet):
    stream = puppet.run.stream(5)
    fd = puppet("open", 5, BOTH)
    stream.send_nowait(ssf.frame(5, b"last"))
    stream.close()
    assert puppet.told(fd, GET_STATUS).count("EPOLLIN") == 1
    assert puppet.ask("read", fd, ROOM).data == ssf.frame(5, b"last")
    assert puppet("read", fd, ROOM) == EAGAIN


def test_a_full_way_out_is_told_and_room_promises_any_frame(puppet: Puppet):
    stream = puppet.run.stream(5)
    stream.connect()
    fd = puppet("open", 5, WRITE)
    answers = [puppet("write", fd, data=BIG) for _ in range(32)]
    assert answers == [0] * 31 + [EAGAIN]
    assert "EPOLLOUT" not in puppet.told(fd, GET_STATUS)
    for _ in range(3):
        assert stream.receive_nowait() == BIG
    assert "EPOLLOUT" not in puppet.told(fd, GET_STATUS), "less than the largest frame"
    assert stream.receive_nowait() == BIG
    assert "EPOLLOUT" in puppet.told(fd, GET_STATUS)


def test_two_readers_of_a_stream_compete(puppet: Puppet):
    stream = puppet.run.stream(5)
    one, other = puppet("open", 5, READ), puppet("open", 5, READ)
    for number in range(3):
        stream.send_nowait(ssf.frame(5, b"%d" % number))
    got = [puppet.ask("read", fd, ROOM).data[32:] for fd in (other, one, other)]
    assert got == [b"0", b"1", b"2"]
    assert puppet("read", one, ROOM) == puppet("read", other, ROOM) == EAGAIN


# ---- before the guest opens, and after it closed


def test_frames_that_come_early_wait_for_the_guest(puppet: Puppet):
    stream = puppet.run.stream(5)
    stream.send_nowait(ssf.frame(5, b"early"))
    fd = puppet("open", 5, READ)
    assert puppet.ask("read", fd, ROOM).data == ssf.frame(5, b"early")


def test_early_frames_do_not_wait_for_ever(puppet: Puppet):
    stream = puppet.run.stream(5, wait_s=0)
    stream.send_nowait(ssf.frame(5, b"early"))
    fd = puppet("open", 5, READ)
    assert puppet("read", fd, ROOM) == EAGAIN
    stream.send_nowait(ssf.frame(5, b"in time"))
    puppet("open", 5, READ)
    assert puppet.ask("read", fd, ROOM).data == ssf.frame(5, b"in time")


def test_early_frames_are_bounded_and_old_ones_make_room(puppet: Puppet):
    stream = puppet.run.stream(5)
    for _ in range(31):
        stream.send_nowait(BIG)
    with pytest.raises(QueueFull):
        stream.send_nowait(BIG)
    assert stream.state == "connected"
    puppet.run.stream(5, wait_s=0).send_nowait(BIG)


def test_a_guest_that_only_writes_leaves_early_frames_to_a_reader(puppet: Puppet):
    stream = puppet.run.stream(5)
    stream.send_nowait(ssf.frame(5, b"early"))
    out = puppet("open", 5, WRITE)
    puppet("close", out)
    fd = puppet("open", 5, READ)
    assert puppet.ask("read", fd, ROOM).data == ssf.frame(5, b"early")


def test_the_last_reader_takes_the_queued_frames_with_it(puppet: Puppet):
    stream = puppet.run.stream(5)
    one, other = puppet("open", 5, READ), puppet("open", 5, BOTH)
    for _ in range(31):
        stream.send_nowait(BIG)
    puppet("close", one)
    with pytest.raises(QueueFull):
        stream.send_nowait(BIG)
    puppet("close", other)
    stream.send_nowait(BIG)
    assert stream.state == "connected"


# ---- control events


def test_a_late_control_descriptor_gets_the_events_it_missed(puppet: Puppet):
    for number in (7, 8):
        puppet.run.stream(number).connect()
        puppet.run.stream(number).send_nowait(ssf.frame(number))
    ctl = puppet("ctl_open")
    assert events(puppet, ctl) == [(7, 1), (8, 1)], "each once"
    puppet.run.stream(9).connect()
    assert events(puppet, ctl) == [(9, 1)]


@pytest.mark.parametrize("room", [0, 7])
def test_an_event_that_does_not_fit_is_kept(puppet: Puppet, room: int):
    ctl = puppet("ctl_open")
    short = puppet.ask("ctl_read", ctl, room)
    assert (short.value, short.size) == (ENOSPC, 8)
    assert puppet.ask("ctl_read", ctl, 8).records == [(0, 1)]


def test_the_oldest_events_are_dropped(puppet: Puppet):
    for _ in range(1100):
        stream = puppet.run.stream(5)
        stream.connect()
        stream.close()
    puppet.run.stream(6).connect()
    found = events(puppet, puppet("ctl_open"))
    assert found == [(5, 1)] * 1022 + [(6, 1)], "of 1024 the newest is the puppet's own"


def test_when_all_clients_go_the_guest_is_told_and_ids_are_free(node: Executor):
    run = node.start(guest("stream_echo"), args=("echo",))
    stream = run.stream(3)
    assert echoed(stream, b"one") == b"one"
    run.close_streams()
    assert ended(run).exit_code == 0, run.read_logs()
    assert run.output == b"1 frames of 1 streams echoed\n"


def test_a_client_that_comes_again_is_another_stream(puppet: Puppet):
    first = puppet.run.stream(5)
    old = puppet("open", 5, BOTH)
    first.send_nowait(ssf.frame(5, b"first"))
    first.close()
    second = puppet.run.stream(5)
    assert (first.state, second.state) == ("closed", "init")
    second.send_nowait(ssf.frame(5, b"second"))
    fd = puppet("open", 5, BOTH)
    assert puppet.ask("read", fd, ROOM).data[32:] == b"second"
    assert puppet("write", old, data=ssf.frame(5)) == EPIPE


# ---- the client's errors, and limits


def test_a_client_sends_only_frames_of_its_stream(puppet: Puppet):
    stream = puppet.run.stream(5)
    with pytest.raises(InvalidArgument, match="a frame of stream 6, sent on stream 5"):
        stream.send_nowait(ssf.frame(6))
    with pytest.raises(InvalidArgument, match="no SSF"):
        drive(stream.send(b"text"))
    assert stream.state == "init"


@pytest.mark.parametrize("end", ["close", "fail"])
def test_after_its_end_a_client_sends_no_more(puppet: Puppet, end: str):
    stream = puppet.run.stream(5)
    stream.connect()
    getattr(stream, end)()
    assert stream.state == {"close": "closed", "fail": "error"}[end]
    with pytest.raises(ChannelClosed):
        stream.send_nowait(ssf.frame(5))
    assert drive(stream.receive()) is None


@pytest.mark.parametrize("stream_id", [-1, 2**31, "1", None, 1.5])
def test_a_stream_has_a_small_number(puppet: Puppet, stream_id: object):
    with pytest.raises(InvalidArgument, match="expected an id"):
        puppet.run.stream(stream_id)  # type: ignore[arg-type]


def test_streams_of_a_session_are_bounded(puppet: Puppet):
    kept = [puppet.run.stream(number) for number in range(1, 64)]
    with pytest.raises(QueueFull, match="64 streams"):
        puppet.run.stream(100)
    assert puppet("open", 100, BOTH) == ENOMEM
    kept[0].close()
    assert puppet("open", 100, BOTH) > 0


def test_streams_that_nobody_used_are_forgotten(puppet: Puppet):
    for number in range(1, 300):
        fd = puppet("open", number, BOTH)
        assert fd > 0
        assert puppet("close", fd) == 0
        assert puppet.run.stream(number).state == "init"


# ---- the end of the execution


def test_what_the_guest_wrote_before_its_end_can_be_read_after_it(node: Executor):
    puppet = Puppet(node)
    stream = puppet.run.stream(5)
    stream.connect()
    fd = puppet("open", 5, BOTH)
    for number in range(5):
        assert puppet("write", fd, data=ssf.frame(5, b"%d" % number)) == 0
    stream.send_nowait(ssf.frame(5, b"never read"))
    puppet.begin("exit", 3)
    assert ended(puppet.run).exit_code == 3
    again = puppet.run.stream(5)
    got = [drive(again.receive()) for _ in range(6)]
    assert got == [ssf.frame(5, b"%d" % number) for number in range(5)] + [None]
    with pytest.raises(ChannelClosed):
        stream.send_nowait(ssf.frame(5))
    del puppet
    assert stream.state == "closed", "a stream outlives the run's handle"


def test_a_wait_for_a_frame_ends_with_the_execution(node: Executor):
    run = node.start(guest("sleeper"), args=("sleeper", "-1"))
    stream = run.stream(1)

    async def go() -> bytes | None:
        waiter = asyncio.create_task(stream.receive())
        await asyncio.sleep(0)
        run.cancel()
        return await asyncio.wait_for(waiter, HANG_S)

    assert asyncio.run(go()) is None


def test_a_client_outlives_a_guest_that_waited(node: Executor):
    """Its bell is still armed when it is ended; what rings then must not find it."""
    rows = [("spear", "spear_epoll_create", "", "i"), ("spear", "spear_epoll_wait", "iiii", "i")]
    wait = asm.i32_const(8) + asm.i32_const(0) + asm.i32_const(-1) + asm.call(1) + asm.DROP
    wasm = asm.module(rows, asm.i32_store(0, 8) + asm.call(0) + wait)
    program = engine().load(wasm)
    for _ in range(20):
        run = node.start(program, inline=True)  # it waits once this is back
        stream = run.stream(1)
        stream.close()
        run.cancel()
        assert ended(run).cause == "cancelled"
        del run
        stream.close()


# ---- both ends together


def echoed(stream, data: bytes) -> bytes:
    drive(stream.send(ssf.frame(stream.id, data)))
    frame = drive(stream.receive())
    assert frame is not None
    return frame[32:]


@pytest.mark.parametrize("inline", [False, True])
def test_sixteen_streams_are_echoed_byte_for_byte(node: Executor, inline: bool):
    run = node.start(guest("stream_echo"), args=("echo",), inline=inline)
    rng = random.Random(3)
    streams = [run.stream(number * 1000) for number in range(16)]
    for size in (0, 1, 100, 5000, FRAME_BYTES - 32):
        for stream in streams:
            data = rng.randbytes(size)
            assert echoed(stream, data) == data
    streams[4].close()
    assert echoed(streams[5], b"goes on") == b"goes on"
    run.close_streams()
    assert ended(run).exit_code == 0
    assert run.output == b"81 frames of 16 streams echoed\n"
    assert run.read_logs()[-1].level == 2


def test_back_pressure_reaches_the_client_and_loses_nothing(node: Executor):
    run = node.start(guest("stream_echo"), args=("echo",))
    stream = run.stream(1)
    frames = [ssf.frame(1, bytes([number % 251]) * 50_000, seq=number) for number in range(300)]

    async def go() -> list[bytes | None]:
        async def feed() -> None:
            for frame in frames:
                await stream.send(frame)

        feeder = asyncio.create_task(feed())
        got = [await stream.receive() for _ in frames]
        await feeder
        return got

    assert asyncio.run(go()) == frames
    run.close_streams()
    assert ended(run).exit_code == 0

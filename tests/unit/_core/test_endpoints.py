"""Channels by themselves: limits, waits with a loop and without, threads, and the end."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest

from spear._core.endpoints import Channel, UserStream
from spear.errors import ChannelClosed, InvalidArgument, QueueFull
from spear.runtime.waiting import drive


def filled(**options) -> Channel:
    channel = Channel(items_max=1, **options)
    channel.put_nowait(b"first")
    return channel


def test_messages_come_whole_and_in_order():
    channel = Channel()
    for item in (b"a", b"", bytes(1000), bytearray(b"xy"), memoryview(b"m")):
        channel.put_nowait(item)
    taken = [channel.get_nowait() for _ in range(6)]
    assert taken == [b"a", b"", bytes(1000), b"xy", b"m", None]


def test_a_full_channel_refuses_and_takes_again_after_a_read():
    channel = filled()
    with pytest.raises(QueueFull, match="1 messages"):
        channel.put_nowait(b"second")
    assert channel.get_nowait() == b"first"
    channel.put_nowait(b"second")
    assert channel.get_nowait() == b"second"


def test_what_never_fits_is_another_error():
    with pytest.raises(InvalidArgument, match="at most 4"):
        Channel(bytes_max=4).put_nowait(b"12345")
    with pytest.raises(InvalidArgument):
        Channel(bytes_max=4, drop_oldest=True).put_nowait(b"12345")


@pytest.mark.parametrize("room", [0, 1, 3, 5])
def test_some_of_many_are_put_as_far_as_there_is_room(room: int):
    channel, items = Channel(items_max=room + 1), [b"a", b"", b"ccc"]
    channel.put_nowait(b"first")
    channel.put_some(items)
    assert items == [b"a", b"", b"ccc"][room:]
    taken = [channel.get_nowait() for _ in range(min(room, 3) + 2)]
    assert taken == [b"first", *[b"a", b"", b"ccc"][:room], None]


def test_room_in_bytes_counts_for_each_of_many():
    channel, items = Channel(bytes_max=4), [b"ab", b"cd", b"e"]
    channel.put_some(items)
    assert (items, len(channel), channel.size_bytes) == ([b"e"], 2, 4)


def test_the_first_of_many_that_is_refused_says_why_and_stays():
    channel = Channel(bytes_max=4)
    for wrong, kind in ((b"12345", InvalidArgument), ("text", TypeError)):
        items = [b"a", wrong, b"b"]
        with pytest.raises(kind):
            channel.put_some(items)
        assert items == [wrong, b"b"]
        assert channel.get_nowait() == b"a"
        assert channel.get_nowait() is None
    channel.close()
    items = [b"a"]
    with pytest.raises(ChannelClosed):
        channel.put_some(items)
    assert items == [b"a"]


async def test_who_waits_for_a_message_is_told_of_many():
    channel = Channel()
    waiting = asyncio.create_task(channel.get())
    await asyncio.sleep(0)
    channel.put_some([b"a", b"b"])
    assert (await waiting, await channel.get()) == (b"a", b"b")


@pytest.mark.parametrize("options", [{"items_max": 0}, {"bytes_max": 0}, {"bytes_max": 1 << 40}])
def test_limits_have_limits(options):
    with pytest.raises(InvalidArgument, match="expected 1 to"):
        Channel(**options)


@pytest.mark.parametrize("item", ["text", 5, None])
def test_only_bytes_are_taken(item):
    with pytest.raises(TypeError):
        Channel().put_nowait(item)


def test_a_user_stream_is_not_made_by_hand():
    with pytest.raises(TypeError, match=r"Run\.stream"):
        UserStream()


@pytest.mark.parametrize("end", ["close", "fail"])
def test_after_the_end_what_is_there_can_be_read(end):
    channel = Channel()
    channel.put_nowait(b"last")
    getattr(channel, end)()
    with pytest.raises(ChannelClosed):
        channel.put_nowait(b"late")
    with pytest.raises(ChannelClosed):
        drive(channel.put(b"late"))
    assert drive(channel.get()) == b"last"
    assert drive(channel.get()) is None
    assert (channel.closed, channel.failed) == (True, end == "fail")


def test_only_what_is_old_enough_is_dropped():
    channel = filled()
    channel.drop(older_s=1000)
    assert (len(channel), channel.dropped) == (1, 0)
    channel.drop()
    assert (len(channel), channel.dropped) == (0, 1)


def in_thread(call, *args) -> threading.Thread:
    thread = threading.Thread(target=call, args=args)
    thread.start()
    return thread


@pytest.mark.parametrize("loop", [False, True], ids=["driven", "loop"])
def test_a_reader_waits_for_a_message_and_for_the_end(loop):
    channel, got = Channel(), []

    async def read():
        while (item := await channel.get()) is not None:
            got.append(item)

    reader = in_thread(asyncio.run if loop else drive, read())
    for number in range(100):
        channel.put_nowait(b"%d" % number)
    channel.close()
    reader.join()
    assert got == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("loop", [False, True], ids=["driven", "loop"])
def test_a_writer_waits_for_room_and_gives_up_at_the_end(loop):
    channel, errors = filled(), []

    async def write():
        await channel.put(b"second")
        try:
            await channel.put(b"third")
        except ChannelClosed as error:
            errors.append(error)

    writer = in_thread(asyncio.run if loop else drive, write())
    assert channel.get_nowait() == b"first"
    assert drive(channel.get()) == b"second"
    channel.close()
    writer.join()
    assert len(errors) == (drive(channel.get()) is None)


async def test_a_wait_that_is_given_up_leaves_the_message():
    channel = Channel()
    waiter = asyncio.create_task(channel.get())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    channel.put_nowait(b"kept")
    assert await channel.get() == b"kept"


async def test_several_wait_at_once_and_each_message_goes_to_one():
    channel = Channel(items_max=2)
    readers = [asyncio.create_task(channel.get()) for _ in range(10)]
    for number in range(10):
        await channel.put(b"%d" % number)
    assert sorted(await asyncio.gather(*readers)) == [b"%d" % number for number in range(10)]


async def test_reader_and_writer_wait_on_one_loop():
    one, other = Channel(items_max=1), Channel(items_max=1)

    async def forward():
        while (item := await one.get()) is not None:
            await other.put(item)
        other.close()

    async def feed():
        for number in range(200):
            await one.put(b"%d" % number)
        one.close()

    tasks = [asyncio.create_task(forward()), asyncio.create_task(feed())]
    got = []
    while (item := await other.get()) is not None:
        got.append(item)
    await asyncio.gather(*tasks)
    assert got == [b"%d" % number for number in range(200)]


def test_every_message_goes_to_one_of_many_threads():
    channel = Channel(items_max=3)
    taken: list[list[bytes]] = [[] for _ in range(3)]

    def read(own: list[bytes]) -> None:
        while (item := drive(channel.get())) is not None:
            own.append(item)

    def write(base: int) -> None:
        for number in range(base, base + 300):
            drive(channel.put(b"%d" % number))

    readers = [in_thread(read, own) for own in taken]
    for writer in [in_thread(write, base) for base in (0, 1000)]:
        writer.join()
    channel.close()
    for reader in readers:
        reader.join()
    numbers = sorted(int(item) for own in taken for item in own)
    assert numbers == [*range(300), *range(1000, 1300)]
    for own in taken:
        for base in (0, 1000):
            ours = [int(item) for item in own if base <= int(item) < base + 300]
            assert ours == sorted(ours)


def test_channels_awaited_on_many_loops_hold_no_descriptor_of_a_closed_loop():
    def once():
        async def go():
            channel = Channel()
            task = asyncio.create_task(channel.get())
            await asyncio.sleep(0)
            channel.put_nowait(b"x")
            assert await task == b"x"

        asyncio.run(go())
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    once()
    assert once() == once() == once()

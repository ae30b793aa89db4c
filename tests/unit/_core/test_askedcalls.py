"""Calls of a client's connection whose answers come when nobody waits for them any more."""

import asyncio

import pytest

from spear.protocol import message as wire
from spear.protocol.client import FrameChannel
from tests.wires import Wire

WELCOME = wire.pack_map(wire.WELCOME, wire.Welcome())


async def test_a_good_answer_to_a_call_that_was_given_up_is_dropped():
    line = Wire()
    connecting = asyncio.ensure_future(FrameChannel.over(line))
    await asyncio.sleep(0)
    line.receiver.frames_received([WELCOME])
    channel = await connecting
    first, second = (asyncio.ensure_future(channel.call("/a/B", b"")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    line.receiver.frames_received(
        [wire.pack(wire.RESPONSE, 0, 0, request_id, b"late") for request_id in (3, 5)]
    )
    assert await second == b"late"
    assert channel.session.asked == 0
    await channel.close()

"""User streams through a node's handles, with a loop and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spear.config import Config
from spear.errors import InvalidArgument
from spear.runtime.stub import StubRuntime
from spear.spearlet.execution.live import Live
from spear.spearlet.library import Spearlet
from tests.reference import ssf

Guest = Callable[[str], Path]


async def test_a_handle_talks_to_its_guest(config: Config, guest: Guest):
    async with Spearlet(config=config) as node:
        handle = await node.start(guest("stream_echo"))
        stream = handle.stream(7)
        await stream.send(ssf.frame(7, b"hello"))
        assert await stream.receive() == ssf.frame(7, b"hello")
        handle.close_streams()
        assert (await handle).output == b"1 frames of 1 streams echoed\n"
        assert await stream.receive() is None


def test_a_handle_without_a_loop_does_the_same(config: Config, guest: Guest):
    with Spearlet.sync(config=config) as node:
        handle = node.start(guest("stream_echo"))
        stream = handle.stream(7)
        stream.connect()
        stream.send(ssf.frame(7, b"one"))
        stream.send_nowait(ssf.frame(7, b"two"))
        assert stream.receive() == ssf.frame(7, b"one")
        assert stream.receive() == ssf.frame(7, b"two")
        assert stream.receive_nowait() is None
        assert (stream.id, stream.state) == (7, "connected")
        stream.close()
        assert (stream.receive(), stream.state) == (None, "closed")
        handle.close_streams()
        assert handle.wait().exit_code == 0


def test_the_guest_knows_its_execution(config: Config, guest: Guest):
    import struct

    with Spearlet.sync(config=config) as node:
        handle = node.start(guest("puppet"))
        stream = handle.stream(0)
        stream.send(ssf.frame(0, struct.pack("<5I", 11, 1001, 5, 1 << 16, 0)))
        frame = stream.receive()
        assert frame is not None
        assert json.loads(frame[40:])["execution_id"] == handle.id
        stream.close()
        handle.wait()


def test_a_stub_has_no_streams_and_what_has_not_begun_has_none_yet(config: Config):
    with Spearlet.sync(config=config, runtime=StubRuntime(lambda run: run.finish())) as node:
        handle = node.start(b"stub")
        with pytest.raises(InvalidArgument, match="no stream 1"):
            handle.stream(1)
        handle.close_streams()
        pending = Live(handle.execution)
        with pytest.raises(InvalidArgument, match="has not begun"):
            pending.stream(1, 30.0)
        pending.close_streams()

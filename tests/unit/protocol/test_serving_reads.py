"""What one read of a socket holds, taken in parts: a call of one part may be given up in the next.

Rule: the frames are handed over as a transport does, so the test says which come in one read.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import pytest

from spear._core.servedcalls import Route
from spear.protocol.message import Hello
from spear.protocol.server import FrameServer
from spear.protocol.serving import FRAMES_A_TURN, FRAMES_AT_ONCE, Caller
from spear.protocol.session import PEER, Response, Session
from tests.wires import Wire


class Handler:
    """Each call waits for its future; `ends` says how each ended that did not get it."""

    def __init__(self) -> None:
        self.waits: dict[bytes, asyncio.Future[bytes]] = {}
        self.ends: list[tuple[bytes, str]] = []
        self.answered = 0

    def routes(self) -> dict[str, Route]:
        methods = {"/t/Stay": self.stay, "/t/Now": self.now}
        return {path: Route(path, method, bytes, bytes) for path, method in methods.items()}

    def call(self, *_: object) -> NoReturn:
        raise AssertionError("a prompt method is called by its route")

    stream = call

    async def now(self, payload: bytes) -> bytes:
        self.answered += 1
        return payload

    async def stay(self, payload: bytes) -> bytes:
        self.waits[payload] = asyncio.get_running_loop().create_future()
        try:
            return await self.waits[payload]
        except BaseException as error:
            self.ends.append((payload, type(error).__name__))
            raise

    def gather(self) -> None: ...

    def settle(self) -> None: ...


class Client:
    def __init__(self, wire: Wire) -> None:
        self.wire, self.session = wire, Session(PEER)
        self.session.hello(Hello(client="test"))
        self.read()
        self.heard()

    def call(self, payload: bytes, path: bytes = b"/t/Stay") -> int:
        return self.session.call(path, 0, payload)

    def read(self) -> None:
        """All that was said comes in one read."""
        frames, self.session.outgoing = self.session.outgoing, []
        self.wire.receiver.frames_received(frames)

    def heard(self) -> dict[int, Response]:
        events = [self.session.receive(frame) for frame in self.wire.taken()]
        return {event.request_id: event for event in events if isinstance(event, Response)}


@pytest.fixture
async def served() -> Any:
    handler, wire = Handler(), Wire()
    faults: list[BaseException] = []
    server = FrameServer(
        handler, lambda caller, hello: "who", lambda path, error: faults.append(error),
        turn=handler, routes=handler.routes(),
    )  # fmt: skip
    server.serve(wire, Caller("test"))
    yield Client(wire), handler, server
    await server.close()
    assert faults == []


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_call_given_up_in_a_later_part_of_its_read_is_told(served: Any) -> None:
    client, handler, _ = served
    first = client.call(b"first")
    for number in range(FRAMES_AT_ONCE):
        client.call(b"%d" % number)
    client.session.cancel(first)
    client.read()
    await turns()
    assert handler.ends == [(b"first", "CancelledError")]
    assert list(client.heard()) == [first]


async def test_calls_of_a_connection_that_breaks_in_a_later_part_are_told(served: Any) -> None:
    client, handler, server = served
    for number in range(FRAMES_AT_ONCE + 1):
        client.call(b"%d" % number)
    client.session.outgoing.append(b"no frame")
    client.read()
    await turns()
    assert sorted(handler.ends) == sorted(
        (b"%d" % number, "CancelledError") for number in range(FRAMES_AT_ONCE + 1)
    )
    assert server.stats()["calls"] == 0


async def test_a_call_given_up_in_the_part_that_brings_it_is_told(served: Any) -> None:
    client, handler, _ = served
    asked = client.call(b"x")
    client.session.cancel(asked)
    client.read()
    await turns()
    assert handler.ends == [(b"x", "CancelledError")]
    assert list(client.heard()) == [asked]


async def test_beyond_the_window_requests_are_held_in_order_and_taken_as_others_end(
    served: Any,
) -> None:
    client, handler, _ = served
    window = client.session.peer_window
    asked = [client.call(b"%d" % number) for number in range(window + 40)]
    client.read()
    assert list(handler.waits) == [b"%d" % number for number in range(window)]
    assert client.wire.paused
    for payload, future in list(handler.waits.items()):
        future.set_result(payload)
    await turns(6)
    assert list(handler.waits) == [b"%d" % number for number in range(window + 40)]
    assert not client.wire.paused
    for payload, future in handler.waits.items():
        if not future.done():
            future.set_result(payload)
    await turns(6)
    assert sorted(client.heard()) == asked


async def test_a_read_full_of_calls_leaves_others_their_turns(served: Any) -> None:
    client, handler, _ = served
    asked = [client.call(b"", b"/t/Now") for _ in range(3 * FRAMES_A_TURN + 1)]
    seen: list[int] = []
    client.read()
    for _ in range(3):
        seen.append(handler.answered)
        assert client.wire.paused
        await asyncio.sleep(0)
    assert seen == [FRAMES_A_TURN, 2 * FRAMES_A_TURN, 3 * FRAMES_A_TURN]
    await turns()
    assert list(client.heard()) == asked
    assert not client.wire.paused

"""Calls that are begun without a task: they answer with the requests that came with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest

from spear._core.servedcalls import Route
from spear.errors import DeadlineExceeded, InvalidArgument, SpearError
from spear.protocol.client import FrameChannel
from spear.protocol.memory import memory_pair
from spear.protocol.server import FrameServer
from spear.protocol.serving import FRAMES_AT_ONCE, Caller, ServedConnection


class Turn:
    """Resolves what was asked for in a turn when the turn is settled."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bytes]] = []
        self.settled: list[int] = []
        self.held = False

    def gather(self) -> None: ...

    def settle(self) -> None:
        if self.waiting:
            self.settled.append(len(self.waiting))
        if not self.held:
            self.release()

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(b"settled")

    def future(self) -> asyncio.Future[bytes]:
        made: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting.append(made)
        return made


class Handler:
    def __init__(self, turn: Turn) -> None:
        self.turn, self.ends = turn, []
        self.server: FrameServer
        self.connection: ServedConnection
        self.methods: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "/t/Wait": self.wait, "/t/Twice": self.twice, "/t/Raise": self.refuse,
            "/t/Yield": self.let_others, "/t/Stay": self.stay, "/t/Share": self.wait,
            "/t/Self": self.wait, "/t/Slow": self.end_slowly,
        }  # fmt: skip

    def routes(self) -> dict[str, Route]:
        return {path: self.route(path) for path in self.methods}

    def route(self, path: str) -> Route:
        return Route(path, lambda payload: self.methods[path](payload), bytes, bytes)

    def call(self, *_: object) -> NoReturn:
        raise AssertionError("a prompt method is called by its route")

    stream = call

    async def wait(self, payload: bytes) -> bytes:
        return payload + await self.turn.future()

    async def twice(self, payload: bytes) -> bytes:
        await self.turn.future()
        return payload + await self.turn.future()

    async def refuse(self, payload: bytes) -> bytes:
        await self.turn.future()
        raise InvalidArgument("not this")

    async def let_others(self, payload: bytes) -> bytes:
        seen: list[int] = []
        for number in range(3):
            asyncio.get_running_loop().call_soon(seen.append, number)
            await asyncio.sleep(0)
        return payload + b" after %d" % len(seen)

    async def end_slowly(self, payload: bytes) -> bytes:
        try:
            return await self.turn.future()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            self.ends.append(payload)

    async def stay(self, payload: bytes) -> bytes:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.ends.append(payload)
            raise
        return b""


@pytest.fixture
async def served() -> Any:
    turn = Turn()
    handler = Handler(turn)
    faults: list[BaseException] = []
    server = FrameServer(
        handler, lambda caller, hello: "who", lambda path, error: faults.append(error), turn=turn,
        routes=handler.routes(),
    )  # fmt: skip
    handler.server = server
    near, far = memory_pair(asyncio.get_running_loop())
    server.serve(far, Caller("test"))
    (handler.connection,) = server._connections
    channel = await FrameChannel.over(near)
    yield channel, handler, turn
    await channel.close()
    await server.close()
    assert faults == []


async def test_what_comes_together_is_settled_together(served: Any) -> None:
    channel, _, turn = served
    answers = await asyncio.gather(*(channel.call("/t/Wait", b"%d " % i) for i in range(8)))
    assert answers == [b"%d settled" % i for i in range(8)]
    assert sum(turn.settled) == 8
    assert len(turn.settled) <= 2


async def test_many_are_answered_in_parts(served: Any) -> None:
    channel, _, turn = served
    count = 3 * FRAMES_AT_ONCE + 1
    await asyncio.gather(*(channel.call("/t/Wait", b"") for _ in range(count)))
    assert max(turn.settled) <= FRAMES_AT_ONCE
    assert sum(turn.settled) == count


async def test_one_that_waits_longer_goes_on_as_a_task(served: Any) -> None:
    channel, _, turn = served
    asking = asyncio.create_task(channel.call("/t/Twice", b"x "))
    while len(turn.settled) < 1 or not turn.waiting:
        await asyncio.sleep(0)
    turn.release()
    assert await asking == b"x settled"


async def test_its_errors_reach_the_caller(served: Any) -> None:
    channel, _, _ = served
    with pytest.raises(InvalidArgument, match="not this"):
        await channel.call("/t/Raise", b"")


async def test_one_that_lets_others_go_first_goes_on_after_them(served: Any) -> None:
    channel, _, _ = served
    assert await channel.call("/t/Yield", b"y") == b"y after 3"


async def test_two_that_await_the_same_go_on_together(served: Any) -> None:
    channel, handler, turn = served
    turn.held = True
    shared, asked = turn.future(), []

    async def share(payload: bytes) -> bytes:
        asked.append(payload)
        return payload + await shared

    handler.methods["/t/Share"] = share
    asking = [asyncio.create_task(channel.call("/t/Share", b"%d " % i)) for i in range(3)]
    while len(asked) < 3:
        await asyncio.sleep(0)
    turn.release()
    assert await asyncio.gather(*asking) == [b"0 settled", b"1 settled", b"2 settled"]


async def test_one_that_is_given_up_in_its_own_step_ends_what_it_awaits(served: Any) -> None:
    channel, handler, turn = served
    turn.held = True
    awaited = turn.future()

    async def end_itself(payload: bytes) -> bytes:
        (own,) = handler.connection._served.under_way.values()
        own.cancel()
        return await awaited

    handler.methods["/t/Self"] = end_itself
    with pytest.raises(SpearError):
        await channel.call("/t/Self", b"")
    assert awaited.cancelled()


async def test_a_server_that_closes_waits_for_one_that_is_slow_to_end(served: Any) -> None:
    channel, handler, turn = served
    turn.held = True
    asking = [asyncio.create_task(channel.call("/t/Slow", b"%d" % i)) for i in range(2)]
    while sum(turn.settled) < 2:
        await asyncio.sleep(0)
    closing = asyncio.create_task(handler.server.close())
    await asyncio.gather(*asking, return_exceptions=True)
    await closing
    assert sorted(handler.ends) == [b"0", b"1"]


async def test_its_deadline_and_its_caller_end_it(served: Any) -> None:
    channel, handler, _ = served
    with pytest.raises(DeadlineExceeded):
        await channel.call("/t/Stay", b"late", deadline_ms=5)
    asking = asyncio.create_task(channel.call("/t/Stay", b"given up"))
    await asyncio.sleep(0)
    asking.cancel()
    while len(handler.ends) < 2:
        await asyncio.sleep(0.001)
    assert sorted(handler.ends) == [b"given up", b"late"]


async def test_one_given_up_in_the_turn_that_began_it_is_told(served: Any) -> None:
    channel, handler, turn = served
    turn.held = True
    asking = asyncio.create_task(channel.call("/t/Stay", b"at once"))
    await asyncio.sleep(0)
    asking.cancel()  # both frames leave together
    while not handler.ends:
        await asyncio.sleep(0)
    assert handler.ends == [b"at once"]

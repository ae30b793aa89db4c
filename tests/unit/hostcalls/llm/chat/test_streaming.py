from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from errno import EINVAL, EIO, ENOMEM
from typing import Any

import pytest
from chat_stand_ins import FakeCall, FakeHandle, FakeModels, agent, reply, tool_call
from manual_clock import ManualClock
from virtual_time import run

from spear._core.drafts import Room
from spear.errors import ModelGarbled
from spear.hostcalls.llm.chat import session as sessions
from spear.hostcalls.llm.chat import streaming
from spear.hostcalls.llm.chat.handlers import AUTO_TOOL_CALL, METRICS, Chat
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.request import Deliver, Delta, Reply
from spear.records.usage import Usage


@pytest.fixture(autouse=True)
def plain_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "Handle", FakeHandle)


def session() -> FakeHandle:
    made = Session(Room())
    made.write("user", "hello")
    return FakeHandle(1, made)


class Reading:
    """A stream that was opened; `events` are read to its end."""

    def __init__(self, models: FakeModels, clock: ManualClock, flags: int = 0) -> None:
        self.chat, self.agent, self.asked = Chat(models, clock), agent(), session()
        self.call: Any = FakeCall(self.agent, self.asked, flags)
        self.handle: Any = self.chat.stream(self.call)

    async def events(self) -> list[Any]:
        found = []
        while (event := await self.handle.channel.get()) is not None:
            found.append(json.loads(event))
        return found

    async def ended(self) -> None:
        while len(self.chat.streams):
            await asyncio.sleep(0)


def deltas(count: int) -> list[Delta]:
    return [Delta(content=f"{number} ") for number in range(count)]


@pytest.mark.parametrize("of_answers", [0, 10**6])
async def test_what_all_streams_of_an_agent_may_take_is_bounded(
    of_answers: int, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = FakeModels(lambda _: models.hang())
    chat, asked, who = Chat(models, clock), session(), agent()
    monkeypatch.setattr(sessions, "STREAM_BYTES", of_answers)
    monkeypatch.setattr(sessions, "STREAMED_BYTES_MAX", 3 * (asked.value.bytes + of_answers))
    opened = [chat.stream(FakeCall(who, asked, 0)) for _ in range(3)]
    call = FakeCall(who, asked, 0)
    assert chat.stream(call) == -ENOMEM
    assert "close one" in call.lines[0][1]
    for handle in opened:
        handle.close()
    while len(chat.streams):
        await asyncio.sleep(0)
    again: Any = chat.stream(FakeCall(who, asked, 0))
    asked.value.write("user", "it counts as it was when it began")
    again.close()
    while len(chat.streams):
        await asyncio.sleep(0)
    assert asked.value._room.streamed == 0


async def test_pieces_come_as_events_and_then_the_whole_answer(clock: ManualClock) -> None:
    call = tool_call("f")
    answer = reply("0 1 ", calls=[call])
    pieces = [*deltas(2), Delta(tool_calls=[{"index": 0, **call}])]
    reading = Reading(FakeModels(answer, pieces=pieces), clock, METRICS)
    assert await reading.events() == [
        {"type": "delta", "content": "0 "},
        {"type": "delta", "content": "1 "},
        {"type": "tool_calls", "tool_calls": [call]},
        {"type": "end", "finish_reason": "tool_calls",
         "_spear": {"backend": "fake", "model": "m"}},
    ]  # fmt: skip
    status, body, about = reading.handle.result
    assert status == 0
    assert json.loads(body) == {**answer.body, "_spear": {"backend": "fake", "model": "m"}}
    assert json.loads(about)["total_tokens"] == 5
    await reading.ended()
    assert len(reading.asked.value.messages) == 1
    assert reading.asked.value._room.taken > 0  # its descriptor is open
    assert reading.agent.meter.own.calls == 1


class Endless(FakeModels):
    """Ten channels full of numbers, by `read` pieces a turn of the loop; `taken` were wanted."""

    def __init__(self, read: int) -> None:
        super().__init__(reply())
        self.read, self.taken = read, 0

    async def stream(self, request: Any, deliver: Deliver) -> Reply:
        while self.taken < 10 * streaming.EVENTS_MAX:
            wait = deliver(Delta(content=f"{self.taken}"))
            if wait is not None:
                await wait
            self.taken += 1
            if self.taken % self.read == 0:
                await asyncio.sleep(0)
        return reply()


@pytest.mark.parametrize("read", [1, 5, 1000])
async def test_a_guest_that_does_not_read_holds_the_model_up(read: int, clock: ManualClock) -> None:
    models = Endless(read)
    reading = Reading(models, clock)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(reading.handle.channel) == streaming.EVENTS_MAX
    assert models.taken <= streaming.EVENTS_MAX + streaming.HELD_MAX + 1
    *events, end = await reading.events()
    assert [int(event["content"]) for event in events] == list(range(10 * streaming.EVENTS_MAX))
    assert end["type"] == "end"


@pytest.mark.parametrize("read", [1, 3, 50])
@pytest.mark.parametrize("pause", [1, 2, 7])
async def test_no_event_is_lost_or_told_twice_however_the_guest_reads(
    read: int, pause: int, clock: ManualClock
) -> None:
    reading, found = Reading(Endless(read), clock), []
    while (event := await reading.handle.channel.get()) is not None:
        found.append(json.loads(event))
        for _ in range(len(found) % pause * 3):
            await asyncio.sleep(0)
    assert [int(event["content"]) for event in found[:-1]] == list(range(640))


async def test_what_came_is_told_though_nothing_follows(clock: ManualClock) -> None:
    """Also where the channel was full."""
    models = FakeModels(lambda _: models.hang(), pieces=deltas(streaming.EVENTS_MAX + 3))
    reading = Reading(models, clock)
    for _ in range(streaming.EVENTS_MAX + 3):
        assert b"delta" in (await reading.handle.channel.get() or b"")
    reading.handle.close()
    await reading.ended()


async def test_an_error_is_an_event_and_the_document(clock: ManualClock) -> None:
    models = FakeModels(ModelGarbled("half an answer", code="c"), pieces=deltas(1))
    reading = Reading(models, clock)
    error = {"code": "c", "message": "half an answer"}
    assert (await reading.events())[1:] == [{"type": "error", "error": error}]
    await reading.ended()
    assert json.loads(reading.handle.result[1]) == {"error": error}
    assert reading.call.lines == [(3, "cchat_stream: half an answer")]


@pytest.mark.parametrize("pieces", [0, 1, 2 * streaming.EVENTS_MAX])
async def test_a_stream_that_is_closed_ends_the_request(pieces: int, clock: ManualClock) -> None:
    """Whether the model is slow, or the guest."""
    models = FakeModels(lambda _: models.hang(), pieces=deltas(pieces))
    reading = Reading(models, clock)
    for _ in range(500):
        await asyncio.sleep(0)
    reading.handle.close()
    await reading.ended()
    assert models.cancelled >= 1
    assert reading.agent.meter.reserved == Usage()
    reading.asked.value.let_go()
    assert reading.asked.value._room.taken == 0


async def test_a_stream_that_is_closed_before_it_began_leaves_nothing(clock: ManualClock) -> None:
    models = FakeModels(reply())
    reading = Reading(models, clock)
    reading.handle.close()
    await reading.ended()
    assert models.requests == []
    reading.asked.value.let_go()
    assert reading.asked.value._room.taken == 0


async def test_a_mistake_of_the_host_ends_the_stream_and_is_told(clock: ManualClock) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    reading = Reading(FakeModels(ZeroDivisionError("oops")), clock)
    assert await reading.events() == []
    await reading.ended()
    assert reading.handle.result[0] == -EIO
    assert reading.call.lines == [(4, "cchat_stream failed: ZeroDivisionError: oops")]
    assert isinstance(told[0]["exception"], ZeroDivisionError)


def test_a_stream_calls_no_tools(clock: ManualClock) -> None:
    call: Any = FakeCall(agent(), session(), AUTO_TOOL_CALL)
    assert Chat(FakeModels(reply()), clock).stream(call) == -EINVAL


def test_what_is_sparse_goes_at_once_and_what_is_not_goes_together() -> None:
    async def main() -> None:
        turn, loop, seen = streaming._Turn(), asyncio.get_running_loop(), list[float]()

        class Due:
            def go(self) -> None:
                seen.append(loop.time())

        async def come(count: int) -> None:
            for _ in range(count):
                turn.add(Due())  # type: ignore[arg-type]
            await asyncio.sleep(0)

        start_s = loop.time()
        await come(2)
        assert seen == [start_s] * 2
        await come(1)
        await come(1)
        assert len(seen) == 2
        await asyncio.sleep(streaming.PAUSE_S)
        assert seen[2:] == pytest.approx([start_s + streaming.PAUSE_S] * 2)
        await asyncio.sleep(1)
        await come(1)
        assert seen[4:] == pytest.approx([loop.time()])

    run(main())


def dropping(self: Any) -> None:
    """What finds no room is lost."""
    while self.held:
        event = self.held.pop(0)
        if len(self.channel) < streaming.EVENTS_MAX:
            self.channel.put_nowait(event)


def twice(self: Any) -> None:
    """The end of a turn does not heed that events are on their way."""
    moving, self.moving = self.moving, None
    HONEST(self)
    self.moving = self.moving or moving


HONEST = streaming._Events.go


@pytest.mark.parametrize("planted", [dropping, twice])
async def test_planted_mistakes_are_found(
    planted: Callable[[Any], None], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming._Events, "go", planted)
    with pytest.raises((AssertionError, IndexError)):
        await test_a_guest_that_does_not_read_holds_the_model_up(1, clock)

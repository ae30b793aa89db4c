"""What goes wrong around a guest that chats ends with a clear error for it, in time, and leaves
nothing: backends that hang, break off and lie, tools that never come back, guests that end."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from chat_node import ChatNode, chat_node, openai, stub
from guest_runs import resident_kib
from model_apis import APIS, Api, every_api

from spear._core.run import Run
from tests.fakes.openai import OpenAiFake
from tests.fakes.step import HANG_BEFORE, HANG_WITHIN, Call, Step

HUGE = b'{"choices":[{"message":{"role":"assistant","content":"' + b"x" * (17 << 20) + b'"}}]}'
HUGE_STREAM = Step(text="x" * (17 << 20))
FAULTS = {
    "hangs": Step(hang=HANG_BEFORE),
    "hangs within": Step(hang=HANG_WITHIN),
    "drops": Step(drop=True),
    "garbage": Step(body=b"\x00\x01 no json"),
    "half UTF-8": Step(body=b'{"choices":[{"message":{"content":"\xc3"}}]}'),
    "a garbled stream": Step(body=b"data: {\n\nno stream", content_type="text/event-stream"),
    "half UTF-8 in a stream": Step(
        body=b'data: {"choices":[{"delta":{"content":"\xc3"}}]}\n\n',
        content_type="text/event-stream",
    ),
    "an empty body": Step(body=b""),
    "huge": Step(body=HUGE),
    "deep": Step(body=b"[" * 1_000_000),
    "429": Step(status=429, headers={"Retry-After": "3600"}),
    "500": Step(status=500),
    "302": Step(status=302, headers={"Location": "http://127.0.0.1:1/"}),
}
LATE_S = 60  # far more than any of this takes, far less than what does not end
KINDS = {"s": "cchat_send", "r": "cchat_stream", "e": "embed_send"}


@pytest.fixture
async def fake() -> AsyncIterator[OpenAiFake]:
    async with OpenAiFake() as made:
        yield made  # type: ignore[misc]


async def logs_of(run: Run) -> str:
    return "\n".join(line.message for line in run.read_logs())


# ---- backends


def fault_of(fault: str, kind: str) -> Step:
    return HUGE_STREAM if (fault, kind) == ("huge", "r") else FAULTS[fault]


@pytest.mark.parametrize(
    ("api", "kind"), [("openai", kind) for kind in KINDS] + [("ollama", "e")]
    + [(api, kind) for api in ("ollama", "anthropic") for kind in "sr"],
)  # fmt: skip
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_backend_that_fails_is_a_clear_error_in_time(
    fault: str, api: str, kind: str
) -> None:
    """The execution has far more time than the request."""
    timeout_ms = 250 if "hangs" in fault else LATE_S * 1000
    words = {
        "s": ("m=one two three", f"p=timeout_ms={timeout_ms}", "s=0"),
        "r": ("m=one two three", f"p=timeout_ms={timeout_ms}", "r=0"),
        "e": (f'e={{"input":"a","timeout_ms":{timeout_ms}}}',),
    }
    async with APIS[api].fake() as fake, chat_node(APIS[api].settings(fake.url)) as node:
        fake.default = fault_of(fault, kind)
        took = node.stopwatch()
        found = await node.talk(*words[kind], timeout_s=600)
        assert took() < LATE_S
        assert len(fake.requests) == 1 or ("hangs" in fault and not fake.requests)
        assert isinstance(found[-1], dict)
        assert found[-1]["error"]["message"]
        if kind == "r":
            assert found[-2] == {"type": "error", "error": found[-1]["error"]}


async def test_a_stream_that_goes_on_for_ever_ends_at_its_deadline(fake: OpenAiFake) -> None:
    fake.default = Step(text="word " * 20_000, delay_ms=5)
    async with chat_node(openai(fake.url)) as node:
        took = node.stopwatch()
        *events, document = await node.talk("m=x", "p=timeout_ms=250", "r=0", timeout_s=600)
        assert took() < LATE_S
        assert events[-1] == {"type": "error", "error": document["error"]}
        assert {event["type"] for event in events[:-1]} <= {"delta"}
        await fake.wait_gone(len(fake.requests))


async def test_a_storm_of_429_is_tried_again_and_then_told(fake: OpenAiFake) -> None:
    """Of as many tries as there may be, all with time left."""
    fake.default = Step(status=429, headers={"Retry-After": "0"})
    async with chat_node(openai(fake.url), retries=1) as node:
        documents = await node.talk("m=x", f"p=timeout_ms={LATE_S * 1000}", "s=0", "s=0")
        assert [document["error"]["message"][:20] for document in documents] == [
            "upstream status: 429"
        ] * 2
        assert node.usage.calls == len(fake.requests) == 4


async def test_a_storm_of_429_that_outlasts_the_deadline_is_not_waited_for(
    fake: OpenAiFake,
) -> None:
    fake.default = Step(status=429, headers={"Retry-After": "3600"})
    async with chat_node(openai(fake.url), retries=9) as node:
        took = node.stopwatch()
        first, *more = await node.talk("m=x", f"p=timeout_ms={LATE_S * 1000}", *["s=0"] * 3)
        assert took() < LATE_S
        assert "upstream status: 429" in first["error"]["message"]
        assert all("asked to be left alone" in one["error"]["message"] for one in more)
        assert node.usage.calls == len(fake.requests) == 1


async def test_many_guests_share_a_failing_backend(fake: OpenAiFake) -> None:
    fake.script(*[FAULTS["drops"], FAULTS["garbage"], Step(), FAULTS["500"]] * 8)
    async with chat_node(openai(fake.url)) as node:
        found = await asyncio.gather(*[node.talk("m=x", "s=0", "s=0") for _ in range(16)])
        assert all(len(documents) == 2 for documents in found)


# ---- guests that end


@pytest.mark.parametrize("word", ["s=0", "s=2", "r=0", 'e={"input":"a"}'])
@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_a_guest_that_ends_ends_its_request(how: str, word: str, fake: OpenAiFake) -> None:
    fake.default = Step(hang=HANG_WITHIN)
    async with chat_node(openai(fake.url)) as node:
        run = node.start("talker", "m=x", word, timeout_s=1.0 if how == "out of time" else 60)
        await fake.wait_requests(1)
        if how == "cancelled":
            run.cancel("enough")
        outcome = await run
        assert outcome.cause == ("cancelled" if how == "cancelled" else "deadline")
        await fake.wait_gone(1)
        await node.settled()
        assert node.usage.calls == 1


async def test_a_stream_that_is_closed_ends_its_request(fake: OpenAiFake) -> None:
    fake.default = Step(hang=HANG_WITHIN, text="a b c d e f")
    async with chat_node(openai(fake.url)) as node:
        found = await node.talk("m=x", "a=0")
        assert found[0]["type"] == "delta"
        await fake.wait_gone(1)


async def test_a_stream_ends_with_its_guest(fake: OpenAiFake) -> None:
    fake.default = Step(hang=HANG_WITHIN)
    async with chat_node(openai(fake.url)) as node:
        run = node.start("talker", "m=x", "o=0", "z")
        await fake.wait_requests(1)
        run.cancel()
        await run
        await fake.wait_gone(1)


async def test_a_guest_that_never_reads_holds_its_stream_up_and_no_memory(
    fake: OpenAiFake,
) -> None:
    """The stream's whole text is far more than what may wait."""
    fake.default = Step(text="word " * 200_000, repeat=1)
    async with chat_node(openai(fake.url)) as node:
        run = node.start("talker", "m=x", "o=0", "z", timeout_s=1.0)
        await run
        await fake.wait_gone(1)
        assert fake.finished == 0


# ---- tools


@pytest.mark.parametrize(
    ("tool", "cause"), [("traps", "trap"), ("parks", "deadline"), ("loops", "deadline")]
)
async def test_a_tool_that_never_comes_back_ends_with_its_guest(
    tool: str, cause: str, fake: OpenAiFake
) -> None:
    fake.default = Step(calls=(Call(tool, {}),))
    async with chat_node(openai(fake.url)) as node:
        took = node.stopwatch()
        run = node.start("talker", "m=x", f"t={tool}", "s=2", timeout_s=1.0)
        outcome = await run
        assert took() < LATE_S
        assert outcome.cause == cause, outcome
        await node.settled()
        assert node.usage.calls == 1


async def test_a_tool_loop_without_end_ends_at_its_limits(fake: OpenAiFake) -> None:
    fake.default = Step(calls=(Call("same", {"a": 1}),) * 100)
    words = ("m=x", "t=same", "p=max_iterations=128", "p=max_tool_calls=1000", "s=2")
    async with chat_node(openai(fake.url)) as node:
        (document,) = await node.talk(*words)
        assert document["error"]["code"] == "tool_call_limit"
        assert node.usage.calls == 11


async def test_a_session_that_fills_up_in_a_loop_ends_with_an_error(
    fake: OpenAiFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spear.hostcalls.llm.chat.session.SESSION_BYTES_MAX", 4000)
    fake.default = Step(calls=(Call("same", {"a": "x" * 100}),) * 10)
    async with chat_node(openai(fake.url)) as node:
        (document,) = await node.talk("m=x", "t=same", "p=max_iterations=128", "s=2")
        assert document["error"]["code"] == "session_full"


# ---- nothing gathers


WORDS: tuple[str, ...] = (
    "n", "m=7 and 5", "t=same", "s=0", "s=2", "r=0", "a=0", 'e={"input":"a"}', "c",
)  # fmt: skip
SENDS = 5  # of WORDS
WAITING_MAX = 8  # connections that wait for a request, both ends of them
PASSING = sorted({*FAULTS} - {"hangs", "hangs within", "huge", "429"})  # and leave no mark


async def held(node: ChatNode) -> tuple[int, int, int]:
    """KiB of memory; descriptors, tasks."""
    await node.settled()
    gc.collect()
    return resident_kib(), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def flat(
    node: ChatNode, rounds: int, guests: int, before_each: Callable[[], None] | None = None
) -> None:
    """Memory, descriptors and tasks after `guests` guests of `rounds` rounds each are what they
    were after the first few."""

    async def one() -> Any:
        if before_each is not None:
            before_each()
        run = node.start("talker", *WORDS, f"l={rounds}", timeout_s=600.0)
        outcome = await run
        assert (outcome.cause, outcome.exit_code) == ("exit", 0), outcome

    for _ in range(3):
        await one()
    kib, *counts = await held(node)
    for _ in range(guests):
        await one()
    kib_after, *counts_after = await held(node)
    assert all(now <= then + WAITING_MAX for now, then in zip(counts_after, counts, strict=True))
    assert kib_after - kib < 16 * 1024


async def test_many_calls_leave_nothing_behind() -> None:
    async with chat_node(stub()) as node:
        await flat(node, rounds=50, guests=6)


class Few(list[Any]):
    """Holds nothing, as a list of what came that is to take no memory."""

    def append(self, _: Any) -> None:
        return


async def flat_over(api: Api, rounds: int, guests: int) -> None:
    """Over HTTP; of the first requests of each guest one in eight fails, each in another way."""
    async with api.fake() as fake, chat_node(api.settings(fake.url)) as node:
        fake.requests = Few()
        steps = [step for fault in PASSING for step in (*[Step()] * 7, FAULTS[fault])]
        await flat(node, rounds, guests, lambda: fake.script(*steps))


@every_api
async def test_many_calls_over_http_leave_nothing_behind(api: str) -> None:
    await flat_over(APIS[api], rounds=16, guests=3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_hundred_thousand_calls_leave_nothing_behind() -> None:
    async with chat_node(stub()) as node:
        await flat(node, rounds=500, guests=100_000 // (500 * SENDS) + 1)


@every_api
@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_hundred_thousand_calls_over_http_leave_nothing_behind(api: str) -> None:
    await flat_over(APIS[api], rounds=200, guests=100_000 // (200 * SENDS) + 1)

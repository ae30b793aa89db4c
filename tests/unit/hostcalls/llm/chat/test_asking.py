from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chat_stand_ins import USED, FakeModels, agent, reply
from manual_clock import ManualClock

from spear._core.drafts import Room
from spear.errors import (
    BudgetSpent,
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NoBackend,
)
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.chat import asking
from spear.hostcalls.llm.chat.asking import (
    COUNT_MAX,
    GRACE_NS,
    LONGEST_NS,
    Asking,
    completion_tokens,
)
from spear.hostcalls.llm.chat.params import Setting
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.meter import Meter
from spear.hostcalls.llm.request import ChatRequest, Delta, EmbedRequest
from spear.records.usage import Budget, Usage

MS = 1_000_000


def session(**params: Any) -> Session:
    made = Session(Room())
    made.write("user", "hello")
    for key, value in params.items():
        made.set(Setting(key, value))
    return made


def failing(kind: type[ModelError], calls: int = 1, unseen: int = 0) -> ModelError:
    error = kind("no")
    error.calls, error.model_ns, error.unseen = calls, calls * 5, unseen
    return error


async def test_what_is_asked_is_the_session_under_the_tasks_policy(clock: ManualClock) -> None:
    models = FakeModels(reply())
    asked = session(model="m", backend="b", temperature=0.5, stream=True)
    asked.tool(1, b'{"name":"f"}')
    await Asking(models, clock).chat(agent({"llm.backends": "b,c"}), asked)
    (request,) = models.requests
    assert request.messages == [{"role": "user", "content": "hello"}]
    assert [tool["function"]["name"] for tool in request.tools] == ["f"]
    assert (request.model, request.backend, request.allowed) == ("m", "b", ("b", "c"))
    assert request.extra == {"temperature": 0.5}
    assert request.request_id
    asked.write("user", "later")
    assert len(request.messages) == 1


@pytest.mark.parametrize(
    ("timeout_ms", "deadline", "budget", "left"),
    [
        (0, 0, {}, LONGEST_NS),
        (250, 0, {}, 250 * MS),
        (250, 100 * MS, {}, 250 * MS),
        (350, 100 * MS, {}, 100 * MS + GRACE_NS),
        (0, LONGEST_NS * 2, {}, LONGEST_NS),
        (LONGEST_NS // MS * 3, LONGEST_NS * 2, {}, LONGEST_NS * 2 + GRACE_NS),
        (250, 0, {"budget.time": "50ms"}, 50 * MS),
    ],
)
async def test_a_request_ends_with_the_first_of_its_limits(
    timeout_ms: int, deadline: int, budget: dict[str, str], left: int, clock: ManualClock
) -> None:
    models, now_ns = FakeModels(reply()), clock.monotonic_ns()
    who = agent(budget, deadline_ns=now_ns + deadline if deadline else 0)
    await Asking(models, clock).chat(who, session(timeout_ms=timeout_ms))
    assert models.requests[0].deadline_ns == now_ns + left


async def test_nothing_is_asked_without_a_message(clock: ManualClock) -> None:
    models = FakeModels(reply())
    with pytest.raises(ModelRefused, match="no message"):
        await Asking(models, clock).chat(agent(), Session(Room()))
    assert models.requests == []


async def test_nothing_is_asked_of_a_full_session(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = session()
    monkeypatch.setattr("spear.hostcalls.llm.chat.session.SESSION_BYTES_MAX", 1)
    with pytest.raises(ModelRefused) as caught:
        await Asking(FakeModels(reply()), clock).chat(agent(), asked)
    assert caught.value.code == "session_full"


async def test_what_it_used_takes_the_reservations_place(clock: ManualClock) -> None:
    who, above = agent(), Meter(Budget())
    who = agent(parent=above)

    def look(_: Any) -> Any:
        assert who.meter.reserved.calls == above.reserved.calls == 1
        assert who.meter.reserved.completion_tokens == 4096
        return reply()

    await Asking(FakeModels(look), clock).chat(who, session())
    assert who.meter.own == above.total == USED
    assert who.meter.reserved == above.reserved == Usage()


@pytest.mark.parametrize(
    ("config", "params"),
    [
        ({"budget.calls": "1"}, {}),
        ({"budget.tokens": "4000"}, {}),
        ({"budget.tokens": "300"}, {"max_tokens": 150, "n": 2}),
        ({"budget.usd": "0.000000006"}, {}),
    ],
)
async def test_a_request_that_may_exceed_the_budget_is_not_asked(
    config: dict[str, str], params: dict[str, Any], clock: ManualClock
) -> None:
    models, who = FakeModels(reply(), price=7), agent(config)
    who.meter.reserve(Usage(calls=1)).settle(Usage(calls=1))
    with pytest.raises(BudgetSpent) as caught:
        await Asking(models, clock).chat(who, session(**params))
    assert caught.value.code == "budget_spent"
    assert models.requests == []
    assert who.meter.reserved == Usage()


async def test_time_that_is_spent_is_refused(clock: ManualClock) -> None:
    who = agent({"budget.time": "1ms"})
    who.meter.reserve(Usage(model_ns=MS)).settle(Usage(model_ns=MS))
    with pytest.raises(BudgetSpent, match=r"budget\.time"):
        await Asking(FakeModels(reply()), clock).chat(who, session())


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (failing(NoBackend, 0), False),
        (failing(ModelRefused), False),
        (failing(ModelUnavailable, 3), False),
        (failing(ModelTimeout, 0), False),
        (failing(ModelUnavailable, 3, 1), True),
        (failing(ModelTimeout, 1, 1), True),
        (failing(ModelGarbled, 2, 2), True),
    ],
)
async def test_a_failed_request_is_counted_as_far_as_it_is_known(
    how: str, error: ModelError, kept: bool, clock: ManualClock
) -> None:
    who = agent({"budget.tokens": "10000"})
    with pytest.raises(type(error)):
        await ask(how, Asking(FakeModels(error), clock), who)
    assert who.meter.total == Usage(calls=error.calls, model_ns=error.model_ns)
    assert who.meter.reserved == Usage()
    assert (who.meter.left("tokens") != 10000) == kept


async def ask(how: str, asking: Asking, who: Agent) -> object:
    if how == "embed":
        return await asking.embed(who, EmbedRequest(texts=["a"]), 0)
    if how == "stream":
        return await asking.stream(who, session(), deliver)
    return await asking.chat(who, session())


async def deliver(_: Delta) -> None:
    pass


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
async def test_a_cancelled_request_leaves_no_reservation(how: str, clock: ManualClock) -> None:
    models, who = FakeModels(lambda _: models.hang()), agent({"budget.tokens": "10000"})
    task = asyncio.create_task(ask(how, Asking(models, clock), who))  # type: ignore[arg-type]
    await models.asked.wait()
    clock.advance(9)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert models.cancelled >= 1
    assert who.meter.total == Usage(calls=1, model_ns=9)
    assert who.meter.reserved == Usage()
    left = who.meter.left("tokens")
    assert left is not None
    assert left < 10000


async def test_models_that_ignore_their_deadline_are_ended(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "GRACE_NS", 0)
    models, who = FakeModels(lambda _: models.hang()), agent()
    with pytest.raises(ModelTimeout):
        await Asking(models, clock).chat(who, session(timeout_ms=1))
    assert models.cancelled == 1
    assert who.meter.total.calls == 1


@pytest.mark.parametrize(
    ("extra", "tokens"),
    [
        ({}, 4096),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_tokens": 0}, 4096),
        ({"max_tokens": True}, 4096),
        ({"max_tokens": "9", "n": "2"}, 4096),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"n": -1}, 4096),
        ({"max_tokens": 10**4000, "n": 10**4000}, COUNT_MAX**2),
    ],
)
def test_the_most_that_an_answer_may_have(extra: dict[str, Any], tokens: int) -> None:
    assert completion_tokens(ChatRequest(messages=[], extra=extra)) == tokens


async def test_what_nobody_could_pay_is_refused_in_words(clock: ManualClock) -> None:
    asked = session(max_tokens=10**4000, n=10**4000)  # a product of more digits than Python shows
    for key in ("budget.tokens", "budget.usd"):
        with pytest.raises(BudgetSpent, match="this call may use"):
            await Asking(FakeModels(reply(), price=10**60), clock).chat(agent({key: "9"}), asked)


def test_a_request_that_names_no_time_has_ten_minutes() -> None:
    assert LONGEST_NS == 10 * 60 * 10**9

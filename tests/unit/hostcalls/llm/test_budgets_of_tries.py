"""A budget holds however often models are tried: each further try is reserved before it begins."""

from __future__ import annotations

import pytest
from chat_stand_ins import agent
from scripted_backends import Act, Stage, answer, fail, spec
from virtual_time import VirtualClock, run

from spear._core.drafts import Room
from spear.config_llm import BackendSettings, LlmSettings, OllamaSettings, Price
from spear.errors import (
    BudgetSpent,
    ModelError,
    ModelGarbled,
    ModelTimeout,
    ModelUnavailable,
    NoBackend,
)
from spear.hostcalls.agent import Agent
from spear.hostcalls.llm.chat.asking import Asking
from spear.hostcalls.llm.chat.params import Setting
from spear.hostcalls.llm.chat.session import Session
from spear.hostcalls.llm.request import Delta
from spear.records.usage import Usage

BUSY = fail(lambda: ModelUnavailable("upstream status: 503", http_status=503))
GARBAGE = fail(lambda: ModelGarbled("no JSON", http_status=200))
NO_LINE = fail(lambda: ModelUnavailable("no connection"))


def reached() -> ModelError:
    error = ModelUnavailable("the stream ended by an error")
    error.reached = True
    return error


BROKEN = fail(reached)


def talk() -> Session:
    session = Session(Room())
    session.write("user", "hello")
    session.set(Setting("max_tokens", 1000))
    return session


TRY = talk().bytes + 1000  # tokens that one try may use


async def deliver(_: Delta) -> None:
    return


def ask(who: Agent, *script: Act, streamed: bool = False, fails: bool = True) -> list[str]:
    """Who was asked how often."""

    async def main() -> list[str]:
        stage, session = Stage(VirtualClock(), {"a": list(script)}, retries=9), talk()
        asking = Asking(stage.models, VirtualClock())
        try:
            if streamed:
                await asking.stream(who, session, deliver)
            else:
                await asking.chat(who, session)
            assert not fails
        except ModelError as error:
            assert fails, error
        return stage.asked

    found = run(main())
    assert who.meter.reserved == Usage()
    return found


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("failure", [BUSY, GARBAGE, BROKEN])
def test_tries_are_calls_of_the_budget(failure: Act, streamed: bool) -> None:
    who = agent({"budget.calls": "3"})
    assert ask(who, failure, streamed=streamed) == ["a3"]
    assert (who.meter.total.calls, who.meter.left("calls")) == (3, 0)


def sentence(config: dict[str, str], scripts: dict[str, list[Act]]) -> BudgetSpent:
    async def main() -> BudgetSpent:
        stage = Stage(VirtualClock(), scripts, specs={"a": {"priority": 1}})
        with pytest.raises(BudgetSpent) as caught:
            await Asking(stage.models, VirtualClock()).chat(agent(config), talk())
        return caught.value

    found = run(main())
    assert found.code == "budget_spent"
    return found


@pytest.mark.parametrize("scripts", [{"a": [BUSY]}, {"a": [BUSY], "b": [answer()]}])
def test_a_budget_that_stops_a_further_try_is_named(scripts: dict[str, list[Act]]) -> None:
    error = sentence({"budget.calls": "1"}, scripts)
    assert str(error) == (
        "upstream status: 503; another try is beyond the budget: this call may use 1 calls; the "
        "budget of 1 calls has 0 calls left (budget.calls of the task, or of one above it, says "
        "how much)"
    )
    assert isinstance(error.__cause__, ModelUnavailable)
    assert error.calls == 1


def test_a_budget_of_time_that_ends_a_request_is_named() -> None:
    error = sentence({"budget.time": "2s"}, {"a": [answer(3600)]})
    assert "'a' did not answer within 2000 ms: the budget of time had 2s left" in str(error)
    assert "budget.time" in str(error)


LIMITED = fail(lambda: ModelUnavailable("upstream status: 429", retry_after_ms=5000))
NO_TIME = (
    "; there is no time for another try: the budget of time had {} left (budget.time of the task, "
    "or of one above it, says how much)"
)


@pytest.mark.parametrize(
    ("act", "budget", "said"),
    [(BUSY, "10ms", "upstream status: 503"), (LIMITED, "2s", "upstream status: 429")],
)
def test_a_budget_of_time_that_leaves_no_further_try_is_named(
    act: Act, budget: str, said: str
) -> None:
    error = sentence({"budget.time": budget}, {"a": [act]})
    assert str(error) == said + NO_TIME.format(budget)
    assert isinstance(error.__cause__, ModelUnavailable)


def test_a_budget_of_time_that_ends_before_anybody_may_be_asked_is_named() -> None:
    async def main() -> None:
        stage = Stage(VirtualClock(), {"a": [LIMITED]}, retries=0)
        asking = Asking(stage.models, VirtualClock())
        with pytest.raises(ModelUnavailable):
            await asking.chat(agent(), talk())
        with pytest.raises(BudgetSpent, match="to be left alone for 5000 ms more") as caught:
            await asking.chat(agent({"budget.time": "1s"}), talk())
        assert str(caught.value).endswith(NO_TIME.format("1s"))
        assert stage.asked == ["a1"]

    run(main())


@pytest.mark.parametrize(("retries", "timeout_ms"), [(0, 0), (9, 15)])
def test_a_budget_of_time_that_stops_nothing_is_not_named(retries: int, timeout_ms: int) -> None:
    async def main() -> None:
        stage, session = Stage(VirtualClock(), {"a": [BUSY]}, retries=retries), talk()
        session.set(Setting("timeout_ms", timeout_ms))
        with pytest.raises(ModelUnavailable) as caught:
            await Asking(stage.models, VirtualClock()).chat(agent({"budget.time": "2s"}), session)
        assert str(caught.value) == "upstream status: 503"

    run(main())


def test_a_time_out_within_the_budget_of_time_is_only_that() -> None:
    async def main() -> None:
        stage = Stage(
            VirtualClock(), {"a": [answer(3600)]}, settings={"a": {"timeout_ns": 10**9}}, retries=0
        )
        asking = Asking(stage.models, VirtualClock())
        with pytest.raises(ModelTimeout, match="within 1000 ms"):
            await asking.chat(agent({"budget.time": "2s"}), talk())
        session = talk()
        session.set(Setting("timeout_ms", 500))
        with pytest.raises(ModelTimeout, match="within 500 ms"):
            await asking.chat(agent({"budget.time": "2s"}), session)

    run(main())


@pytest.mark.parametrize(
    ("failure", "settings", "said", "asked"),
    [
        (LIMITED, {}, "upstream status: 429", ["a1"]),
        (BUSY, {"requests_per_minute": 11}, "the next one would begin", ["a1"]),
    ],
)
def test_nothing_is_waited_for_that_the_guest_would_not_live_to_see(
    failure: Act, settings: dict[str, int], said: str, asked: list[str]
) -> None:
    """Its request ends a little later than the guest does; what it waits for must begin before."""

    async def main() -> None:
        clock = VirtualClock()
        stage = Stage(clock, {"a": [failure]}, settings={"a": settings}, retries=9)
        who = agent()
        left_ns = 5 * 10**9 if not settings else -(-60 * 10**9 // 11)
        who.deadline_ns = clock.monotonic_ns() + left_ns - 1
        with pytest.raises(ModelUnavailable, match=said):
            await Asking(stage.models, clock).chat(who, talk())
        assert clock.monotonic_ns() < who.deadline_ns
        assert stage.asked == asked

    run(main())


def test_the_budget_of_one_above_counts_too() -> None:
    above = agent({"budget.calls": "2"})
    who = agent({"budget.calls": "5"}, parent=above.meter)
    assert ask(who, BUSY) == ["a2"]
    assert (above.meter.left("calls"), who.meter.total.calls) == (0, 2)


def test_a_try_that_reached_nobody_costs_nothing() -> None:
    who = agent({"budget.calls": "1"})
    assert ask(who, NO_LINE, NO_LINE, answer(), fails=False) == ["a3"]
    assert who.meter.total.calls == 1


def test_a_try_that_was_refused_used_no_tokens() -> None:
    who = agent({"budget.tokens": str(TRY)})
    assert ask(who, BUSY, BUSY, answer(), fails=False) == ["a3"]
    assert who.meter.left("tokens") == TRY - 15


@pytest.mark.parametrize("failure", [GARBAGE, BROKEN])
def test_a_try_whose_end_nobody_saw_may_have_used_all_of_its_tokens(failure: Act) -> None:
    who = agent({"budget.tokens": str(2 * TRY)})
    assert ask(who, failure, answer(), fails=False) == ["a2"]
    assert who.meter.left("tokens") == 2 * TRY - TRY - 15
    assert who.meter.total.tokens == 15  # what nobody saw is not counted as used


@pytest.mark.parametrize("failure", [GARBAGE, BROKEN])
def test_and_then_the_next_one_needs_as_much_again(failure: Act) -> None:
    who = agent({"budget.tokens": str(2 * TRY - 1)})
    assert ask(who, failure, answer()) == ["a1"]
    assert who.meter.left("tokens") == TRY - 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("prompt", "completion", "taken"),
    [(10, 5, 15), (0, 5, TRY - 1000 + 5), (10, 0, 10 + 1000), (0, 0, TRY)],
)
def test_what_a_backend_does_not_count_stays_taken(
    prompt: int, completion: int, taken: int, streamed: bool
) -> None:
    """Else a server that says nothing of its tokens, or nonsense, is one without a budget."""

    async def main() -> None:
        usd = 10**9
        who = agent({"budget.tokens": "100000", "budget.usd": "1000"})
        prices = (Price(model="*", prompt=10**6, completion=2 * 10**6),)
        llm = LlmSettings(backends=(BackendSettings(spec=spec("a")),), prices=prices)
        stage = Stage(VirtualClock(), {}, llm=llm)
        asking = Asking(stage.models, VirtualClock())
        stage["a"].usage = Usage(calls=1, prompt_tokens=prompt, completion_tokens=completion)
        if streamed:
            await asking.stream(who, talk(), deliver)
        else:
            await asking.chat(who, talk())
        assert who.meter.left("tokens") == 100_000 - taken
        assert who.meter.total.tokens == prompt + completion
        most = TRY - 1000 + 2 * 1000  # what one try may cost
        cost = 10 + 2 * 5 if taken == 15 else most
        assert who.meter.left("cost_nano_usd") == 1000 * usd - cost
        assert who.meter.reserved == Usage()

    run(main())


OLLAMA = OllamaSettings(enabled=True, base_url="http://elsewhere", allow_remote=True)


async def one_model(*_: object) -> bytes:
    return b'{"models":[{"name":"m"}]}'


@pytest.mark.parametrize("model", ["", "m"])
def test_money_goes_to_no_backend_that_is_discovered_and_has_no_price(model: str) -> None:
    """Before it is discovered, nothing can be said of its price."""

    async def main() -> None:
        who, session = agent({"budget.usd": "1"}), talk()
        session.set(Setting("model", model))
        stage = Stage(
            VirtualClock(), {}, llm=LlmSettings(backends=(), ollama=OLLAMA), fetch=one_model
        )
        with pytest.raises(NoBackend, match="no price of it is known, and the task has a budget"):
            await Asking(stage.models, VirtualClock()).chat(who, session)
        assert stage.asked == []
        await Asking(stage.models, VirtualClock()).chat(agent(), session)

    run(main())


def test_money_goes_to_one_that_is_discovered_with_a_price() -> None:
    async def main() -> None:
        who = agent({"budget.usd": "1"})
        llm = LlmSettings(backends=(), ollama=OLLAMA, prices=(Price(model="m", prompt=10**12),))
        stage = Stage(VirtualClock(), {}, llm=llm, fetch=one_model)
        await Asking(stage.models, VirtualClock()).chat(who, talk())
        assert who.meter.total.cost_nano_usd == 10 * 10**6

    run(main())

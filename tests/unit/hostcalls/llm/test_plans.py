"""Plans: kept for as long as they are right, and never many."""

from __future__ import annotations

from typing import Any

from scripted_backends import Stage, answer, chat
from virtual_time import VirtualClock, run

from spear.hostcalls.llm.choice.plans import PLANS_MAX, Plans
from spear.hostcalls.llm.choice.routing import Need

MEMBERS: list[Any] = ["a member"]


def need(model: str = "m", backend: str = "") -> Need:
    return Need(operation="chat_completions", model=model, backend=backend)


def test_a_plan_is_of_one_kind_of_request() -> None:
    plans = Plans()
    plans.keep(need(), False, 0, MEMBERS)
    assert plans.get(need(), False, 0) is MEMBERS
    assert plans.get(need(), True, 0) is None
    assert plans.get(need(backend="b"), False, 0) is None


def test_other_backends_make_all_plans_void() -> None:
    plans = Plans()
    plans.keep(need(), False, 0, MEMBERS)
    assert plans.get(need(), False, 1) is None
    plans.keep(need("n"), False, 1, MEMBERS)
    assert plans.get(need(), False, 1) is None
    assert plans.get(need("n"), False, 1) is MEMBERS


def test_what_guests_make_up_does_not_gather() -> None:
    plans = Plans()
    for number in range(3 * PLANS_MAX):
        plans.keep(need(f"m{number}"), False, 0, MEMBERS)
        assert len(plans._plans) <= PLANS_MAX
    plans.keep(need("x" * 300), False, 0, MEMBERS)
    assert plans.get(need("x" * 300), False, 0) is None


def test_a_kept_plan_is_ordered_by_health_as_the_first_one_was() -> None:
    async def main() -> None:
        stage = Stage(VirtualClock(), {"a": [answer()], "b": [answer()]})
        for _ in range(20):
            assert (await stage.models.chat(chat())).backend in "ab"
        assert len(stage.models._plans._plans) == 1
        for _ in range(3):
            member = stage.models._roster.get("a")
            assert member is not None
            member.health.failed(0, "down")
        member.health._open_until_ns = 1 << 62
        assert {(await stage.models.chat(chat())).backend for _ in range(20)} == {"b"}

    run(main())

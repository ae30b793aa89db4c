"""Budgets over trees of executions: sums are exact, and no reservation outlives its call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from spear.errors import BudgetSpent
from spear.hostcalls.llm import meter as meters
from spear.hostcalls.llm.meter import Meter, Reservation
from spear.records.usage import AMOUNT_MAX, Budget, Usage

small = st.integers(0, 6)
usages = st.builds(
    Usage, calls=small, prompt_tokens=small, completion_tokens=small, model_ns=small,
    cost_nano_usd=small,
)  # fmt: skip
limit = st.sampled_from([0, 0, 5, 20])
budgets = st.builds(Budget, calls=limit, tokens=limit, model_ns=limit, cost_nano_usd=limit)
FIELDS = ("calls", "tokens", "model_ns", "cost_nano_usd")


class Trees(RuleBasedStateMachine):
    """Each node of `tree` is (meter, parent's place, budget, own usage); each call that is open
    (place, reserved, Reservation); `lost` is what stays taken, by place."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.tree: list[tuple[Meter, int, Budget]] = []
        self.own: list[Usage] = []
        self.lost: list[Usage] = []
        self.open: list[tuple[int, Usage, Reservation]] = []
        self.begun: dict[Reservation, int] = {}

    @rule(ns=small)
    def wait(self, ns: int) -> None:
        self.now_ns += ns

    @rule(budget=budgets, data=st.data())
    def begin(self, budget: Budget, data: Any) -> None:
        place = data.draw(st.integers(-1, len(self.tree) - 1))
        parent = self.tree[place][0] if place >= 0 else None
        self.tree.append((Meter(budget, parent, lambda: self.now_ns), place, budget))
        self.own.append(Usage())
        self.lost.append(Usage())

    @rule(usage=usages, data=st.data())
    def ask(self, usage: Usage, data: Any) -> None:
        if not self.tree:
            return
        place = data.draw(st.integers(0, len(self.tree) - 1))
        fits = all(self._fits(above, usage) for above in self._line(place))
        try:
            reservation = self.tree[place][0].reserve(usage)
        except BudgetSpent as error:
            assert not fits
            assert error.code == "budget_spent"
            return
        assert fits
        self.open.append((place, usage, reservation))
        self.begun[reservation] = self.now_ns

    @rule(usage=usages, how=st.sampled_from(["settle", "release", "abandon"]), data=st.data())
    def end(self, usage: Usage, how: str, data: Any) -> None:
        if not self.open:
            return
        at = data.draw(st.integers(0, len(self.open) - 1))
        place, reserved, reservation = self.open.pop(at)
        used = Usage() if how == "release" else usage
        getattr(reservation, how)(*[used] * (how != "release"))
        reservation.settle(Usage(calls=1000))  # the first word counts
        self.own[place] += used
        if how == "abandon":
            rest = msgspec.structs.asdict(reserved - used)
            self.lost[place] += Usage(**{key: max(0, value) for key, value in rest.items()})

    def _line(self, place: int) -> Iterator[int]:
        while place >= 0:
            yield place
            place = self.tree[place][1]

    def _within(self, place: int) -> list[int]:
        return [each for each in range(len(self.tree)) if place in self._line(each)]

    def _sum(self, found: Iterator[Usage]) -> Usage:
        total = Usage()
        for usage in found:
            total += usage
        return total

    def _reserved(self, place: int) -> Usage:
        within = self._within(place)
        return self._sum(reserved for at, reserved, _ in self.open if at in within)

    def _shown(self, place: int) -> tuple[Usage, Usage] | None:
        meter, within = self.tree[place][0], self._within(place)
        found = meter.own, meter.total
        if self._reserved(place).calls:
            found = meter.own + self._going([place]), meter.total + self._going(within)
        return found if found[1].calls else None

    def _going(self, places: list[int]) -> Usage:
        """What is known of the calls that go on: how many, and for how long."""
        return self._sum(
            Usage(calls=reserved.calls, model_ns=self.now_ns - self.begun[reservation])
            for at, reserved, reservation in self.open
            if at in places
        )

    def _left(self, place: int, what: str) -> int:
        within = self._within(place)
        taken = self._sum(self.own[each] + self.lost[each] for each in within)
        return int(
            getattr(self.tree[place][2], what) - getattr(taken + self._reserved(place), what)
        )

    def _fits(self, place: int, usage: Usage) -> bool:
        return all(
            getattr(usage, what) <= max(0, self._left(place, what))
            for what in FIELDS
            if getattr(self.tree[place][2], what)
        )

    @invariant()
    def sums_are_exact(self) -> None:
        for place, (meter, _, _) in enumerate(self.tree):
            assert meter.own == self.own[place]
            assert meter.total == self._sum(self.own[each] for each in self._within(place))
            assert meter.reserved == self._reserved(place)
            assert meter.shown == self._shown(place)
            for what in FIELDS:
                line = [at for at in self._line(place) if getattr(self.tree[at][2], what)]
                left = [max(0, self._left(at, what)) for at in line]
                assert meter.left(what) == min(left, default=None)


TestTrees = Trees.TestCase
TestTrees.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)


built = Meter.__init__


def planted_reserve_before_check(self: Meter, usage: Usage) -> Reservation:
    for meter in self._line:
        meter._check(usage)
        meter._reserved += usage
    return Reservation(self, usage, 0)


def planted_no_parents(
    self: Meter, budget: Budget, parent: Meter | None = None, now_ns: Any = None
) -> None:
    built(self, budget, None, now_ns)


def planted_no_time(self: Meter, open: int, since_ns: int) -> Usage:
    return Usage()


def planted_time_of_the_last(self: Meter, open: int, since_ns: int) -> Usage:
    assert self._now_ns is not None
    return Usage(model_ns=max(0, self._now_ns() - since_ns))


def planted_kept_reservation(
    self: Meter, reserved: Usage, used: Usage, lost: Usage, began_ns: int
) -> None:
    self.own += used
    for meter in self._line:
        meter.total += used
        meter._lost += lost


def planted_ends_twice(self: Reservation, used: Usage, lost: Usage) -> None:
    assert self._meter is not None
    self._meter._settle(self._reserved, used, lost, self._began_ns)


@pytest.mark.parametrize(
    ("owner", "name", "mistake"),
    [
        (Meter, "reserve", planted_reserve_before_check),
        (Meter, "__init__", planted_no_parents),
        (Meter, "_settle", planted_kept_reservation),
        (Meter, "_time_of", planted_no_time),
        (Meter, "_time_of", planted_time_of_the_last),
        (Reservation, "_end", planted_ends_twice),
        (meters, "_beyond", lambda reserved, known: reserved),
    ],
)
def test_a_planted_mistake_is_found(
    owner: Any, name: str, mistake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mistake)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(
            Trees,
            settings=settings(
                max_examples=300, deadline=None, database=None, derandomize=True,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip


def test_sums_grow_as_far_as_a_record_holds():
    above = Meter(Budget(cost_nano_usd=10**9))
    below = Meter(Budget(), above)
    for _ in range(3):
        below.reserve(Usage()).settle(Usage(calls=1, cost_nano_usd=AMOUNT_MAX - 1))
    for found in (below.own, below.total, above.total):
        assert found == Usage(calls=3, cost_nano_usd=AMOUNT_MAX)
    with pytest.raises(BudgetSpent):
        below.reserve(Usage(cost_nano_usd=1))

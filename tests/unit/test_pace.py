"""What is done in place: only what is trusted to be quick."""

from __future__ import annotations

import pytest

from spear.pace import _COST, _ENOUGH, Pace

QUICK_NS = 100


def pace_after(quick: int) -> Pace:
    pace = Pace(QUICK_NS)
    for _ in range(quick):
        pace.took(QUICK_NS)
    return pace


def until_quick(pace: Pace) -> int:
    """How many quick ones it takes."""
    count = 0
    while not pace.quick:
        pace.took(QUICK_NS)
        count += 1
    return count


def test_it_is_trusted_after_some_quick_ones() -> None:
    assert until_quick(Pace(QUICK_NS)) == _ENOUGH


@pytest.mark.parametrize("before", [0, _ENOUGH, _ENOUGH + 50, _ENOUGH + _COST - 1])
def test_one_that_was_not_quick_costs_as_much_as_many_earn(before: int) -> None:
    pace = pace_after(before)
    pace.took(QUICK_NS + 1)
    assert not pace.quick
    assert until_quick(pace) == _COST - max(0, before - _ENOUGH)


@pytest.mark.parametrize("before", [_ENOUGH + _COST, 10_000])
def test_one_in_very_many_is_borne_and_the_second_is_not(before: int) -> None:
    pace = pace_after(before)
    pace.took(QUICK_NS + 1)
    assert pace.quick
    pace.took(QUICK_NS + 1)
    assert not pace.quick
    assert until_quick(pace) == _COST


def test_many_that_are_not_quick_cost_no_more_than_one() -> None:
    pace = pace_after(0)
    for _ in range(10):
        pace.took(QUICK_NS + 1)
    assert until_quick(pace) == _COST


def test_one_that_goes_on_counts_only_where_it_was_not_quick() -> None:
    pace = pace_after(_ENOUGH + _COST)
    pace.held_up(QUICK_NS)
    pace.held_up(QUICK_NS + 1)
    assert pace.quick
    pace.held_up(QUICK_NS + 1)
    assert not pace.quick
    pace = pace_after(_ENOUGH - 1)
    pace.held_up(QUICK_NS)
    assert not pace.quick

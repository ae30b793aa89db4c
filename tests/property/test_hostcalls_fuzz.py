"""The short forms of the fuzzers of hostcalls and of module files."""

from __future__ import annotations

from tests.fuzz import fuzz_hostcalls, fuzz_modules, wild_calls


def test_wild_hostcalls_have_clean_outcomes():
    causes = fuzz_hostcalls.fuzz(runs=600, seed=1)
    assert sum(causes.values()) == 600
    assert {"exit", "trap", "deadline", "cancelled"} <= set(causes)


def test_guests_that_draw_their_calls_themselves_make_every_call():
    tally = wild_calls.fuzz(calls=50_000, seed=1)
    assert tally.never_called() == []
    assert tally.grown > 0
    assert tally.grown_in_tools > 0
    assert {"exit"} <= set(tally.causes) <= wild_calls.single.CAUSES


def test_damaged_modules_are_loaded_or_refused():
    assert 20 < fuzz_modules.fuzz(runs=1500, seed=1) < 1000

"""The short forms of the fuzzers of hostcalls and of module files."""

from __future__ import annotations

from tests.fuzz import fuzz_hostcalls, fuzz_modules


def test_wild_hostcalls_have_clean_outcomes():
    causes = fuzz_hostcalls.fuzz(runs=600, seed=1)
    assert sum(causes.values()) == 600
    assert {"exit", "trap", "deadline", "cancelled"} <= set(causes)


def test_damaged_modules_are_loaded_or_refused():
    assert 20 < fuzz_modules.fuzz(runs=1500, seed=1) < 1000

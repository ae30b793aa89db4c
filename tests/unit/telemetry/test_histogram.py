"""Histograms against sorted lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spear.telemetry.histogram import Histogram

VALUES = st.lists(st.integers(0, 10**13) | st.integers(0, 40), min_size=1, max_size=200)
BOUNDS = tuple(1 << bits for bits in range(48))


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    return histogram


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_within_a_thirtieth(values: list[int], percent: int) -> None:
    exact = sorted(values)[-(-len(values) * percent // 100) - 1]
    assert abs(filled(values).percentile(percent) - exact) <= exact / 30 + 1


@given(VALUES)
def test_counts_up_to_powers_of_two_are_exact(values: list[int]) -> None:
    found = filled(values).below(BOUNDS)
    assert found == [sum(value <= bound for value in values) for bound in BOUNDS]


@given(VALUES)
def test_count_mean_and_largest_are_exact(values: list[int]) -> None:
    summary = filled(values).summary()
    assert summary["count"] == len(values)
    assert summary["mean"] == sum(values) // len(values)
    assert summary["max"] == max(values)
    assert summary["p50"] <= summary["p90"] <= summary["p99"] <= summary["max"]


def test_an_empty_one_has_zeros_and_odd_values_do_no_harm() -> None:
    assert set(Histogram().summary().values()) == {0}
    assert filled([-5]).summary()["max"] == 0
    assert filled([1 << 60]).percentile(50) <= 1 << 60
    assert filled([1 << 60]).below(BOUNDS)[-1] == 0

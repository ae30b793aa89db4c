"""The delays before another attempt, for any policy."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spear.records.task import Retry
from spear.spearlet.retry import RANDOM_BITS, jitter_ns, next_delay_ns

MOST = (1 << RANDOM_BITS) - 1
RANDOM = st.integers(0, MOST)
NS = st.integers(0, 10**18)


def test_an_attempt_fails_for_good_once_it_was_the_last_or_for_another_reason() -> None:
    retry = Retry(attempts=3, on=("TRAP",))
    assert next_delay_ns(retry, 1, "TRAP", 0) == 0
    assert next_delay_ns(retry, 2, "TRAP", 0) == 0
    assert next_delay_ns(retry, 3, "TRAP", 0) is None
    assert next_delay_ns(retry, 1, "DEADLINE", 0) is None
    assert next_delay_ns(Retry(), 1, "TRAP", 0) is None, "one attempt unless more are asked for"


def test_an_outcome_that_is_not_known_is_tried_again_only_if_named() -> None:
    assert next_delay_ns(Retry(attempts=9), 1, "OUTCOME_UNKNOWN", 0) is None
    assert next_delay_ns(Retry(attempts=9, on=("OUTCOME_UNKNOWN",)), 1, "OUTCOME_UNKNOWN", 0) == 0


def test_the_bound_doubles_up_to_its_maximum() -> None:
    bounds = [jitter_ns(100, 1000, attempt, MOST) for attempt in range(1, 7)]
    assert bounds == [100, 200, 400, 800, 1000, 1000]


@settings(deadline=None)
@given(NS, NS, st.integers(1, 10**18), RANDOM)
def test_a_delay_lies_within_its_bound(backoff_ns, maximum_ns, attempt, random) -> None:
    bound_ns = min(maximum_ns, backoff_ns * 2 ** min(attempt - 1, 100))
    assert 0 <= jitter_ns(backoff_ns, maximum_ns, attempt, random) <= bound_ns
    assert jitter_ns(backoff_ns, maximum_ns, attempt, MOST) == bound_ns
    assert jitter_ns(backoff_ns, maximum_ns, attempt, 0) == 0


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 20))
def test_the_random_number_spreads_evenly(bound_ns, attempt) -> None:
    """The middle of the random numbers gives the middle of the bound, a quarter a quarter."""
    for part in (4, 2):
        found = jitter_ns(bound_ns, bound_ns, attempt, (1 << RANDOM_BITS) // part)
        assert found == (bound_ns + 1) // part

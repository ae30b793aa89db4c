"""The plan of tries, health and rates: pure parts against what they promise."""

from __future__ import annotations

from itertools import accumulate
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear.config_llm import Price
from spear.hostcalls.llm.choice.health import CLOSED, COOL_NS, COOL_NS_MAX, FAILURES, OPEN, Health
from spear.hostcalls.llm.choice.limits import Rate
from spear.hostcalls.llm.choice.prices import Prices
from spear.hostcalls.llm.choice.tries import AGAIN_NS_MIN, CANDIDATES_MAX, Tries
from spear.records.models import BackendSpec

S = 10**9


@settings(max_examples=examples(300), deadline=None)
@given(
    st.integers(1, 12), st.integers(0, 5),
    st.lists(st.integers(0, 20 * S), min_size=12, max_size=12),
    st.integers(0, 30 * S), st.integers(0, 1 << 30), st.sets(st.integers(0, 11)),
)  # fmt: skip
def test_tries_end_are_bounded_and_keep_to_the_times(
    count: int, retries: int, ready: list[int], deadline_ns: int, seed: int, hanging: set[int]
) -> None:
    names = [str(n) for n in range(count)]
    random = Random(seed)
    tries = Tries(
        names, retries, random.randrange, lambda name: ready[int(name)], lambda name: True
    )
    now_ns, taken = 0, list[str]()
    while (step := tries.next(now_ns, deadline_ns)) is not None:
        now_ns += step.wait_ns
        assert now_ns + (AGAIN_NS_MIN if taken else 1) <= deadline_ns
        assert now_ns >= ready[int(step.name)]
        taken.append(step.name)
        if int(step.name) in hanging:
            assert taken.count(step.name) == 1
            tries.exclude(step.name)
        now_ns += random.randrange(S // 10)
    assert len(taken) <= min(count, CANDIDATES_MAX) + retries
    if now_ns + AGAIN_NS_MIN <= deadline_ns and not any(ready):
        assert set(taken) >= set(names[:CANDIDATES_MAX])


def test_one_that_is_ready_is_tried_before_one_that_rests_and_before_any_retry() -> None:
    ready = {"a": 5 * S, "b": 0, "c": 0}
    tries = Tries("abc", 1, Random(1).randrange, ready.__getitem__, lambda name: name != "b")
    steps = [tries.next(0, 60 * S) for _ in range(2)]
    assert [step and step.name for step in steps] == ["c", "b"]  # c would begin at once
    third = tries.next(0, 60 * S)
    assert third is not None
    assert third.name in "bc"
    assert third.wait_ns <= 200 * 10**6
    last = tries.next(S, 60 * S)
    assert last is not None
    assert (last.name, last.wait_ns) == ("a", 4 * S)
    assert tries.next(S, 60 * S) is None


MS = 10**6


def test_a_retry_waits_as_long_as_is_drawn_up_to_a_bound_that_doubles() -> None:
    bounds: list[int] = []

    def waits(part: float) -> list[int]:
        def draw(below: int) -> int:
            bounds.append(below - 1)
            return int((below - 1) * part)

        tries = Tries("a", 9, draw, lambda name: 0, lambda name: True)
        steps = [tries.next(0, 600 * S) for _ in range(9)]
        return [step.wait_ns for step in steps if step is not None][1:]

    doubled = [200 * MS << n for n in range(6)] + [10 * S] * 2
    assert waits(1.0) == doubled
    assert waits(0.25) == [wait // 4 for wait in doubled]
    assert waits(0.0) == [0] * 8
    assert bounds == doubled * 3


def test_a_further_try_needs_some_time_and_the_first_one_any() -> None:
    def tries(names: str, ready_ns: int = 0) -> Tries:
        return Tries(names, 1, lambda below: 0, lambda name: ready_ns, lambda name: True)

    for names in ("a", "ab"):  # a retry, and a fail-over
        asked = tries(names)
        assert asked.next(0, 1) is not None
        assert asked.next(S, S + 20 * MS - 1) is None
        assert asked.next(S, S + 20 * MS) is not None
    assert tries("a", S).next(0, S) is None
    assert tries("a", S).next(0, S + 1) is not None


def test_health_opens_after_failures_in_a_row_for_longer_each_time() -> None:
    health, now_ns = Health(), 0
    for n in range(FAILURES):
        assert health.state(now_ns) == CLOSED
        assert health.failed(now_ns, "x") == (n == FAILURES - 1)
    lengths = []
    for _ in range(10):
        until_ns = next(t for t in range(now_ns, now_ns + 100 * S, S // 2) if health.ready(t))
        lengths.append(until_ns - now_ns)
        now_ns = until_ns
        assert health.begun(now_ns)
        assert not health.ready(now_ns)  # the trial is under way
        assert not health.begun(now_ns)
        assert not health.failed(now_ns, "x")
        health.trial_over()
        assert health.state(now_ns) == OPEN
    assert lengths == [min(COOL_NS << n, COOL_NS_MAX) for n in range(10)]
    now_ns += COOL_NS_MAX
    assert health.begun(now_ns)
    assert health.succeeded(S)
    assert (health.state(now_ns), health.ready(now_ns)) == (CLOSED, True)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 10**12)), max_size=50))
def test_the_means_stay_between_what_was_seen(events: list[tuple[bool, int]]) -> None:
    health = Health()
    for failed, latency_ns in events:
        if failed:
            health.failed(0, "x")
        else:
            health.succeeded(latency_ns)
        assert 0.0 <= health.error_rate <= 1.0
    seen = [latency for failed, latency in events if not failed]
    assert min(seen, default=0) <= health.latency_ns <= max(seen, default=0)


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(1, 6000), st.lists(st.integers(0, 5 * S), min_size=1, max_size=300))
def test_no_minute_has_more_requests_than_the_rate_and_its_burst(
    per_minute: int, gaps: list[int]
) -> None:
    rate, arrived = Rate(per_minute), list(accumulate(gaps))
    begins, foretold = list[int](), list[int]()
    for now_ns in [*arrived, 1 << 60]:  # all have had their turn by the last
        while len(begins) < len(foretold):
            turn_ns = rate.turn_ns(arrived[len(begins)])
            if turn_ns > now_ns:
                break
            rate.take(turn_ns)
            begins.append(turn_ns)
        foretold.append(rate.turn_ns(now_ns, len(foretold) - len(begins)))
    assert begins == sorted(begins) == foretold[:-1]
    burst = max(1, per_minute // 10)
    for first, begin in enumerate(begins):
        within = sum(begin <= other < begin + 60 * S for other in begins[first:])
        assert within <= per_minute + burst


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_cost_is_exact_and_rounded_up(
    prompt: int, completion: int, prompt_price: int, completion_price: int
) -> None:
    prices = Prices([Price(model="m", prompt=prompt_price, completion=completion_price)])
    spec = BackendSpec(name="a", kind="stub", hosting="remote")
    cost = prices.of(spec, "m", prompt, completion)
    assert cost is not None
    exact = prompt * prompt_price + completion * completion_price
    assert 0 <= cost * 10**6 - exact < 10**6


def test_the_model_s_own_entry_beats_patterns_and_the_first_pattern_counts() -> None:
    prices = Prices(
        [
            Price(model="gpt-*", backend="a", prompt=1 * 10**6),
            Price(model="gpt-*", prompt=2 * 10**6),
            Price(model="gpt-4", prompt=3 * 10**6),
        ]
    )
    remote = BackendSpec(name="a", kind="openai_chat_completion", hosting="remote")
    other = BackendSpec(name="b", kind="openai_chat_completion", hosting="remote")
    local = BackendSpec(name="c", kind="ollama_chat", hosting="local")
    assert prices.of(remote, "gpt-3", 1, 0) == 1
    assert prices.of(other, "gpt-3", 1, 0) == 2
    assert prices.of(remote, "gpt-4", 1, 0) == 3
    assert prices.of(remote, "llama", 1, 0) is None
    assert prices.of(local, "llama", 1, 0) == 0
    assert prices.of(local, "gpt-4", 1, 0) == 3

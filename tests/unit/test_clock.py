"""Ids sort by the time they were made, whatever the wall clock does."""

from __future__ import annotations

import uuid

from manual_clock import ManualClock

from spear.clock import Clock, Ids


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_it(clock: ManualClock) -> None:
    made = uuid.UUID(Ids(clock).next())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == clock.now_ns() // 1_000_000


def test_ids_made_in_one_millisecond_sort_in_the_order_of_making(clock: ManualClock) -> None:
    ids = Ids(clock)
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_go_on_growing_when_the_clock_steps_back(clock: ManualClock) -> None:
    ids = Ids(clock)
    first = ids.next()
    clock.advance(-3_600_000_000_000)
    assert ids.next() > first


def test_two_sources_with_one_time_differ_by_their_randomness() -> None:
    assert Ids(ManualClock(seed=1)).next() != Ids(ManualClock(seed=2)).next()


def test_the_machine_s_clock_answers() -> None:
    clock = Clock()
    assert clock.now_ns() > 1_600_000_000 * 10**9
    assert clock.monotonic_ns() <= clock.monotonic_ns()
    assert len(clock.random_bytes(12)) == 12
    assert clock.host_name()

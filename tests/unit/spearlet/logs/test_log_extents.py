"""Ranges of an execution's lines: bounded, and never short of one."""

from __future__ import annotations

from random import Random

import pytest

from spear.spearlet.logs.extents import COUNT_MAX, Extents
from spear.telemetry.rotating import Place


def test_ranges_that_touch_are_one() -> None:
    extents = Extents([Place(1, 0, 5), Place(1, 5, 9), Place(1, 10, 12), Place(2, 0, 3)])
    assert list(extents) == [Place(1, 0, 9), Place(1, 10, 12), Place(2, 0, 3)]


def test_what_follows_a_point_is_the_rest_of_its_range_or_the_next() -> None:
    extents = Extents([Place(1, 10, 20), Place(3, 5, 8)])
    assert extents.after(0, 0) == Place(1, 10, 20)
    assert extents.after(1, 15) == Place(1, 15, 20)
    assert extents.after(1, 20) == extents.after(2, 7) == Place(3, 5, 8)
    assert extents.after(3, 8) is None
    extents.forget_before(3)
    assert extents.after(0, 0) == Place(3, 5, 8)


@pytest.mark.parametrize("seed", range(5))
def test_every_byte_added_is_covered_by_few_ranges_in_order(seed: int) -> None:
    rng = Random(seed)
    extents, added = Extents(), []
    generation, offset = 1, 0
    for _ in range(1500):
        if generation < 9 and rng.random() < 0.01:
            generation, offset = generation + 1, 0
        start = offset + rng.randrange(3)
        place = Place(generation, start, start + rng.randrange(1, 5))
        extents.add(place)
        added.append(place)
        offset = place.end
        assert len(extents) <= COUNT_MAX
    found = list(extents)
    assert found == sorted(found)
    for place in added:
        assert any(
            known.generation == place.generation
            and known.start <= place.start
            and place.end <= known.end
            for known in found
        )

"""Ranges of an execution's lines: bounded, and never short of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spear.spearlet.logs.extents import COUNT_MAX, Extents
from spear.telemetry.rotating import Place

STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.booleans()), max_size=1500)


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


@given(STEPS)
def test_every_byte_added_is_covered_by_few_ranges_in_order(
    steps: list[tuple[int, int, bool]],
) -> None:
    extents, added = Extents(), []
    generation, offset = 1, 0
    for gap, size, rotate in steps:
        if rotate and generation < 9:
            generation, offset = generation + 1, 0
        place = Place(generation, offset + gap, offset + gap + size)
        extents.add(place)
        added.append(place)
        offset = place.end
    found = list(extents)
    assert len(found) <= COUNT_MAX
    assert found == sorted(found)
    for place in added:
        assert any(
            known.generation == place.generation
            and known.start <= place.start
            and place.end <= known.end
            for known in found
        )

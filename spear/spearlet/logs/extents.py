"""Where the lines of one execution lie in the files of its task: a short list of ranges.

The rule: every line of the execution lies within the ranges; other executions' lines may too, so
readers look at each line's id. The list is bounded: where it grows long, neighbours become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spear.telemetry.rotating import Place

COUNT_MAX = 256


class Extents:
    """Ranges in order."""

    __slots__ = ("_places",)

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places: list[Place] = []
        for place in places:
            self.add(place)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: Place) -> None:
        """Takes a range behind all others."""
        places = self._places
        if places:
            generation, start, end = places[-1]
            if generation == place.generation and end == place.start:
                places[-1] = Place(generation, start, place.end)
                return
        places.append(place)
        if len(places) > COUNT_MAX:
            self._places = _halved(places)

    def after(self, generation: int, offset: int) -> Place | None:
        """What is left of the first range that ends behind this point."""
        for place in self._places:
            if place.generation > generation:
                return place
            if place.generation == generation and place.end > offset:
                return Place(generation, max(place.start, offset), place.end)
        return None

    def forget_before(self, generation: int) -> None:
        """Older files have been removed."""
        self._places = [place for place in self._places if place.generation >= generation]


def _halved(places: list[Place]) -> list[Place]:
    """Each two neighbours in one file as one range."""
    merged: list[Place] = []
    alone = False  # the last one has no neighbour in it yet
    for place in places:
        if alone and merged[-1].generation == place.generation:
            merged[-1] = Place(place.generation, merged[-1].start, place.end)
            alone = False
        else:
            merged.append(place)
            alone = True
    return merged

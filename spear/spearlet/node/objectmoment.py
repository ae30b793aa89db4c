"""All objects under a prefix as they were at one moment, one after the other, with their values.

The rule: the moment is a snapshot of the table, and with it the durable objects that had to make
room by then; who writes meanwhile neither waits nor is seen. A reader, however slow, holds the
snapshot, what is known of those, a page of other names and one value. What it sees stays in the
table for AGE_MS_MAX at most, and only while no write needs the room: else it is told to begin anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby

from spear.errors import QueueFull
from spear.records.objects import ObjectInfo
from spear.spearlet.node.durables import Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.objstore import ObjectStat, Snapshot
    from spear.spearlet.node.objects import NodeObjects

OPEN_MAX = 64  # at once; guests, who list by snapshots, share the table's 1,024
AGE_MS_MAX = 60_000
_PAGE = 256


async def snapshot(objects: NodeObjects, start: bytes) -> AsyncIterator[tuple[ObjectInfo, bytes]]:
    """By key, of those whose key begins with `start`. Raises QueueFull, SnapshotExpired."""
    table = objects.table
    if table.stats().snapshots >= OPEN_MAX:
        raise QueueFull(f"{OPEN_MAX} snapshots are being read, the most at once: try again")
    with table.snapshot(age_ms_max=AGE_MS_MAX, yields=True) as moment:
        away = await objects.maybe_away(start)
        for number, found in enumerate(_both(_in_table(moment, start), away), 1):
            if number % _PAGE == 0:
                await asyncio.sleep(0)
            yield await _read(objects, moment, found)


def _both(there: Iterator[ObjectStat], away: Sequence[Kept]) -> Iterator[ObjectStat | Kept]:
    """By key; of two of one key what is in the table."""
    parts: tuple[Iterable[ObjectStat | Kept], ...] = (there, away)
    for _, alike in groupby(merge(*parts, key=_key), key=_key):
        yield next(alike)


def _in_table(moment: Snapshot, start: bytes) -> Iterator[ObjectStat]:
    after = None
    while page := moment.list(start, _PAGE, after):
        yield from page
        after = page[-1].key


def _key(found: ObjectStat | Kept) -> bytes:
    return found.key


async def _read(
    objects: NodeObjects, moment: Snapshot, found: ObjectStat | Kept
) -> tuple[ObjectInfo, bytes]:
    if isinstance(found, Kept):
        return found.info, await objects.value_of(found)
    return objects.info(found), bytes(moment.get(found.key))

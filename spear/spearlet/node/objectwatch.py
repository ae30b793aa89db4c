"""Tells how the objects under a prefix change, whoever changes them: callers, guests, eviction.

The rule: a watcher looks, and tells what is otherwise than at its last look; so a slow one misses
steps between but never how things are at last. Guests change the table on their own threads and
tell nobody: while somebody watches, its counts are looked at some times a second, and only where
they have moved is the prefix read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from spear.errors import QueueFull
from spear.records.objects import ObjectChange, ObjectInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.node.objects import NodeObjects

WATCHED_MAX = 100_000
_PAGE = 1000
_LOOK_S = 0.02  # between looks at the counts

Seen = dict[str, ObjectInfo]


async def watch(objects: NodeObjects, prefix: str, existing: bool) -> AsyncIterator[ObjectChange]:
    """Raises QueueFull where more than WATCHED_MAX objects lie there."""
    moved = objects.moved
    seen = await _look(objects, prefix)
    if existing:
        for info in seen.values():
            yield ObjectChange(info=info)
    while True:
        while moved == objects.moved:
            await asyncio.sleep(_LOOK_S)
        moved = objects.moved  # before the look: what moves during it is looked at again
        now = await _look(objects, prefix)
        for change in _changes(seen, now):
            yield change
        seen = now


async def _look(objects: NodeObjects, prefix: str) -> Seen:
    found: Seen = {}
    after = ""
    while True:
        page = objects.list(prefix, _PAGE, after)
        found.update((info.key, info) for info in page.objects)
        if len(found) > WATCHED_MAX:
            raise QueueFull(
                f"more than {WATCHED_MAX} objects lie under {prefix!r}: watch a longer prefix"
            )
        after = page.next_start_after
        if not after:
            return found
        await asyncio.sleep(0)


def _changes(seen: Seen, now: Seen) -> list[ObjectChange]:
    """By key: first what is new or has another version, then what is gone."""
    put = [
        ObjectChange(info=info)
        for key, info in now.items()
        if key not in seen or seen[key].version != info.version
    ]
    gone = [ObjectChange(info=info, deleted=True) for key, info in seen.items() if key not in now]
    return put + gone

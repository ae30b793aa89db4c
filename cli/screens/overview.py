"""The node in one look: what it says about itself, and its counts by group.

The rule: a person gets the counts that are not 0, a group a line; a program gets all.
"""

from __future__ import annotations

from collections.abc import Mapping

from spear.cli.screens import details, words
from spear.cli.visits.visit import Visit


async def show(visit: Visit) -> None:
    """Of the visited node."""
    info = dict(sorted((await visit.node.info()).items()))  # protobuf's maps have no order
    stats = await visit.node.stats()
    rows = [_row(name, value) for name, value in info.items()]
    for name, found in sorted(stats.items()):
        if counts := counted(found):
            rows.append((words.one_line(name), counts))
    visit.answer({"info": info, "stats": stats}, details.columns(rows))


def _row(name: str, value: str) -> tuple[str, str]:
    if name.endswith("_ns") and value.isdecimal():
        name, value = name.removesuffix("_ns"), words.moment(int(value))
    return words.one_line(name.replace("_", " ")), words.one_line(value)


def counted(found: Mapping[str, int]) -> str:
    """What is not 0: `files 3, rows 12`."""
    shown = (f"{name.replace('_', ' ')} {count}" for name, count in sorted(found.items()) if count)
    return words.one_line(", ".join(shown))

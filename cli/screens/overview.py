"""The node in one look: what it says about itself, and its counts by group."""

from __future__ import annotations

from spear.cli.screens import details, words
from spear.cli.visits.visit import Visit


async def show(visit: Visit) -> None:
    info = await visit.node.info()
    stats = await visit.node.stats()
    rows = [(name.replace("_", " "), words.one_line(value)) for name, value in info.items()]
    text = details.columns(rows)
    for group, counts in stats.items():
        found = [(f"  {name.replace('_', ' ')}", str(count)) for name, count in counts.items()]
        text += f"\n{words.one_line(group)}\n{details.columns(found)}"
    visit.answer({"info": info, "stats": stats}, text)

"""`spear gc`: removes what a node needs no more."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.screens import bars, overview
from spear.cli.visits.visit import Visit, on_node


@click.command()
@on_node
async def command(visit: Visit) -> int:
    """Forget what is beyond the node's limits, and remove the files that nothing names any more.

    A node does this by itself, from time to time.
    """
    with bars.waiting("collecting garbage"):
        counts = await visit.node.collect_garbage()
    visit.answer(counts, f"removed: {overview.counted(counts) or 'nothing'}\n")
    return exits.OK

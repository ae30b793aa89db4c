"""`spear rm`: forgets executions that have ended."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.visits import ids
from spear.cli.visits.visit import Visit, on_node


@click.command()
@click.argument("id", metavar="ID")
@on_node
async def command(visit: Visit, id: str) -> int:
    """Forget an ended execution, with its result and its log.

    \b
    spear rm 3f9a12bc
    """
    found = await ids.execution_id(visit.node, id)
    visit.done(await visit.node.remove(found), f"execution {found} is forgotten")
    return exits.OK

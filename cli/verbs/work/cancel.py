"""`spear cancel`: ends an execution wherever it is."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.screens import bars, words
from spear.cli.visits import ids
from spear.cli.visits.visit import Visit, on_node


@click.command()
@click.argument("id", metavar="ID")
@click.option("--reason", default="", help="Kept in its record.")
@on_node
async def command(visit: Visit, id: str, reason: str) -> int:
    """End an execution, whether it waits or runs; returns once it has ended.

    One that had ended before stays as it is.

    \b
    spear cancel 3f9a12bc --reason "wrong input"
    """
    found = await ids.execution_id(visit.node, id)
    with bars.waiting(f"cancelling {words.id_end(found)}"):
        execution = await visit.node.cancel(found, reason)
    visit.kept(execution, f"execution {found} is {execution.status}")
    return exits.OK

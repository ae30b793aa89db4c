"""`spear status`: the node, or one execution or task."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.running.screen import say_end
from spear.cli.screens import overview
from spear.cli.visits import ids
from spear.cli.visits.visit import Visit, on_node
from spear.errors import NotFound
from spear.records.execution import Execution
from spear.records.task import Task


@click.command()
@click.argument("id", metavar="[ID|TASK]", default="")
@on_node
async def command(visit: Visit, id: str) -> int:
    """Show the node; with an execution's ID or a task's name, all that is known of it.

    \b
    spear status
    spear status 3f9a12bc
    spear status greet --output json
    """
    if not id:
        await overview.show(visit)
        return exits.OK
    found = await _named(visit, id)
    visit.show(found)
    if isinstance(found, Execution) and found.error and not visit.as_json:
        say_end(found.error)
    return exits.OK


async def _named(visit: Visit, text: str) -> Execution | Task:
    """A task by its name or id, or an execution by its id or a part of it."""
    try:
        return await visit.node.task(text)
    except NotFound as error:
        if not ids.looks_like_id(text):
            raise NotFound(f"no task is called {text!r}, and it is no execution's id") from error
    return await visit.node.execution(await ids.execution_id(visit.node, text))

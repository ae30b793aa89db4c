"""`spear status`: the node, or one execution or task."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.running.screen import say_end
from spear.cli.screens import family, overview
from spear.cli.visits import ids, paging, tasknames
from spear.cli.visits.visit import Visit, on_node
from spear.errors import NotFound
from spear.records.execution import Execution
from spear.records.task import Task

_TREE_MAX = 1000


@click.command()
@click.argument("id", metavar="[ID|TASK]", default="")
@on_node
async def command(visit: Visit, id: str) -> int:
    """Show the node; with an execution's ID or a task's name, all that is known of it. Where agents
    called each other, their tree is shown, each with what it used of models.

    \b
    spear status
    spear status 3f9a12bc
    spear status greet --output json
    """
    if not id:
        await overview.show(visit)
        return exits.OK
    found = await _named(visit, id)
    if isinstance(found, Execution):
        await _show(visit, found)
    else:
        visit.show(found)
    if isinstance(found, Execution) and found.error and not visit.as_json:
        say_end(found.error)
    return exits.OK


async def _show(visit: Visit, found: Execution) -> None:
    """The record, and where agents called agents their tree; for programs what it called itself."""
    root_id = found.root_id or found.id
    below, more = await paging.executions(visit.node, _TREE_MAX, root=root_id)
    if visit.as_json:
        visit.answer(family.nested(found, family.subtree(found, below)), "")
        return
    visit.show(found)
    if below:
        tree = family.text_of(await _root_of(visit, found), below, found.id)
        visit.answer(None, "\n" + tree)
    if more:
        visit.tell(f"these are the newest {_TREE_MAX} of its tree")


async def _root_of(visit: Visit, found: Execution) -> Execution:
    """A stand-in with its id where it is forgotten."""
    if found.root_id in ("", found.id):
        return found
    try:
        return await visit.node.execution(found.root_id)
    except NotFound:
        return Execution(id=found.root_id, status="forgotten")


async def _named(visit: Visit, text: str) -> Execution | Task:
    """A task by its name or id, or an execution by its id or a part of it."""
    try:
        return await visit.node.task(text)
    except NotFound as error:
        if not ids.looks_like_id(text):
            sentence = f"no task is called {text!r}, and it is no execution's id"
            async with tasknames.nearest(visit.node, text):
                raise NotFound(sentence) from error
    return await visit.node.execution(await ids.execution_id(visit.node, text))

"""`spear instance`: the environments that run executions."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.screens import tables
from spear.cli.visits import ids, tasknames
from spear.cli.visits.visit import Visit, on_node


@click.group()
def command() -> None:
    """Look at and end the environments that run executions."""


@command.command("ls")
@click.option("--task", metavar="TASK", default="", help="Only of this task.")
@on_node
async def ls(visit: Visit, task: str) -> int:
    """List the instances, what they run and what they have run."""
    found = await visit.node.instances(task=task)
    if task and not found:
        await tasknames.check(visit.node, task)
    visit.show_all(tables.INSTANCES, found)
    return exits.OK


@command.command()
@click.argument("id", metavar="ID")
@click.option("--reason", default="", help="Kept with the execution that is ended by this.")
@on_node
async def rm(visit: Visit, id: str, reason: str) -> int:
    """End an instance, and the execution that it runs."""
    found = await ids.instance_id(visit.node, id)
    instance = await visit.node.destroy_instance(found, reason)
    visit.done(instance, f"instance {found} is {instance.status}")
    return exits.OK

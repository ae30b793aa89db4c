"""`spear task`: what is registered once and invoked many times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from spear.cli import exits
from spear.cli.screens import tables
from spear.cli.visits import paging, specs, tasknames
from spear.cli.visits.options import ARGS, SET
from spear.cli.visits.visit import Visit, on_node
from spear.records.task import PRIORITIES, TASK_STATUSES, TaskSpec

_FILE = click.argument("file", metavar="FILE.wasm|FILE.toml")
_TASK = click.argument("task", metavar="TASK")
_SPEC_OPTIONS = (
    click.option("--name", default="", help="What the task is called (default: as the file)."),
    click.option("--description", default="", help="A line for people."),
    click.option("--env", metavar="NAME=VALUE", multiple=True,
                 help="A variable of the guest's environment."),
    click.option("--dir", "dirs", metavar="HOST[:GUEST][:ro|rw]", multiple=True,
                 help="A directory of the node that the guest may use."),
    click.option("--timeout", metavar="DURATION", help="Wall time of an execution."),
    click.option("--memory", metavar="SIZE", help="Limit of the guest's memory."),
    click.option("--fuel", type=click.IntRange(1), help="Limit of the work itself."),
    click.option("--priority", type=click.Choice(PRIORITIES),
                 help="Which of those that wait goes first."),
    SET,
    click.option("--concurrency", type=click.IntRange(1), help="Executions at once."),
)  # fmt: skip


def _spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SPEC_OPTIONS):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """Register, look at, change and remove tasks.

    A task file says all there is to say of a task (limits, retries, pools, grants); of a module
    alone the options say the most common part.
    """


@command.command(short_help="Register a task from a task file or a module.")
@_FILE
@ARGS
@_spec_options
@on_node
async def register(visit: Visit, file: str, name: str, **said: Any) -> int:
    """Register a task from a task file or a module; ARGS are its arguments unless a call has some.

    The same again is no error. A name that stands for something else is refused: `update` makes
    its next version.

    \b
    spear task register greet.wasm --timeout 2s --env TONE=kind
    spear task register spear.toml
    """
    task = await visit.node.register(await _spec(visit, file, name, said))
    visit.kept(task, f"task {task.name} is registered, version {task.version}")
    return exits.OK


@command.command(short_help="Give a task its next version.")
@_FILE
@ARGS
@_spec_options
@click.option("--if-version", type=click.IntRange(1), help="Only if this is its version now.")
@on_node
async def update(visit: Visit, file: str, name: str, if_version: int | None, **said: Any) -> int:
    """Give the task of that name its next version; what runs goes on with the one it has.

    \b
    spear task update greet.wasm
    spear task update spear.toml --if-version 3
    """
    spec = await _spec(visit, file, name, said)
    task = await visit.node.update(spec, if_version=if_version or 0)
    visit.kept(task, f"task {task.name} is at version {task.version}")
    return exits.OK


async def _spec(visit: Visit, file: str, name: str, said: dict[str, Any]) -> TaskSpec:
    """Options are read before anything is sent."""
    change = specs.changes(**said)
    return specs.changed(await specs.spec_of(visit.node, file, name), change)


@command.command("ls")
@click.option("--status", type=click.Choice(TASK_STATUSES), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@on_node
async def ls(visit: Visit, status: str | None, limit: int) -> int:
    """List the tasks by name."""
    found = await paging.tasks(visit.node, limit + 1, status=status or "")
    visit.show_first(tables.TASKS, found, limit)
    return exits.OK


@command.command()
@_TASK
@on_node
async def show(visit: Visit, task: str) -> int:
    """Show all that is known of a task, by its name or id."""
    async with tasknames.nearest(visit.node, task):
        visit.show(await visit.node.task(task))
    return exits.OK


@command.command()
@_TASK
@on_node
async def activate(visit: Visit, task: str) -> int:
    """Let a task be invoked again."""
    return await _change(visit, task, "active")


@command.command()
@_TASK
@on_node
async def deactivate(visit: Visit, task: str) -> int:
    """Refuse new invocations of a task; what was accepted goes on."""
    return await _change(visit, task, "inactive")


async def _change(visit: Visit, name: str, status: str) -> int:
    async with tasknames.nearest(visit.node, name):
        task = await visit.node.set_task_status(name, status)
    visit.kept(task, f"task {task.name} is {task.status}")
    return exits.OK


@command.command()
@_TASK
@click.option("--reason", default="", help="Kept with what is ended by this.")
@on_node
async def rm(visit: Visit, task: str, reason: str) -> int:
    """Remove a task. What runs goes on to its end, what waits is ended; the records stay."""
    async with tasknames.nearest(visit.node, task):
        found = await visit.node.unregister(task, reason)
    visit.done(found, f"task {found.name} is removed")
    return exits.OK

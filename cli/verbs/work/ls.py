"""`spear ls`: what there is of one kind."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.arguments import UsageError
from spear.cli.screens import tables
from spear.cli.visits import paging, tasknames
from spear.cli.visits.visit import Visit, on_node
from spear.records.execution import STATUSES
from spear.records.task import TASK_STATUSES

_KINDS = ("executions", "tasks", "artifacts", "instances", "schedules")
_STATUSES = {"executions": STATUSES, "tasks": TASK_STATUSES}
_FILTERS = {"task": ("executions", "instances"), "status": tuple(_STATUSES)}


@click.command()
@click.argument("kind", type=click.Choice(_KINDS), default="executions")
@click.option("--task", metavar="TASK", default="", help="Only of this task.")
@click.option("--status", metavar="STATUS", default="",
              help=f"Only in this state: {', '.join(STATUSES)}; of tasks "
              f"{', '.join(TASK_STATUSES)}.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True,
              help="At most so many.")  # fmt: skip
@on_node
async def command(visit: Visit, kind: str, task: str, status: str, limit: int) -> int:
    """List executions (the newest first), tasks, artifacts, instances or schedules.

    \b
    spear ls
    spear ls executions --task greet --status failed
    spear ls tasks --output json

    An ID in a table is the end of a whole one; every verb takes it in its place.
    """
    for option, value in (("task", task), ("status", status)):
        if value and kind not in _FILTERS[option]:
            raise UsageError(f"--{option} is for {' and '.join(_FILTERS[option])}, not {kind}")
    known = _STATUSES.get(kind, ())
    if status and status not in known:
        raise UsageError(f"--status of {kind} is one of {', '.join(known)}, not {status!r}")
    await _LISTS[kind](visit, limit, task, status)
    return exits.OK


async def _executions(visit: Visit, limit: int, task: str, status: str) -> None:
    found, more = await paging.executions(visit.node, limit, task=task, status=status)
    if task and not found:  # some of a task that is gone, or never was registered, are no mistake
        await tasknames.check(visit.node, task)
    visit.show_all(tables.EXECUTIONS, found)
    if more:
        visit.tell(f"these are the newest {limit}; --limit shows more")


async def _tasks(visit: Visit, limit: int, task: str, status: str) -> None:
    found = await paging.tasks(visit.node, limit + 1, status=status)
    visit.show_first(tables.TASKS, found, limit)


async def _artifacts(visit: Visit, limit: int, task: str, status: str) -> None:
    visit.show_first(tables.ARTIFACTS, await paging.artifacts(visit.node, limit + 1), limit)


async def _instances(visit: Visit, limit: int, task: str, status: str) -> None:
    found = await visit.node.instances(task=task)
    if task and not found:
        await tasknames.check(visit.node, task)
    visit.show_first(tables.INSTANCES, found, limit)


async def _schedules(visit: Visit, limit: int, task: str, status: str) -> None:
    visit.show_first(tables.SCHEDULES, await visit.node.schedules(), limit)


_LISTS = {
    "executions": _executions, "tasks": _tasks, "artifacts": _artifacts, "instances": _instances,
    "schedules": _schedules,
}  # fmt: skip

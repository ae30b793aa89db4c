"""`spear schedule`: when a node invokes a task by itself."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.arguments import UsageError
from spear.cli.running import inputs
from spear.cli.screens import tables, words
from spear.cli.visits import ids, tasknames
from spear.cli.visits.calls import call_options, invocation_of, webhook_option
from spear.cli.visits.options import ARGS, duration_ns
from spear.cli.visits.visit import Visit, on_node
from spear.clock import unix_ns_of
from spear.records.schedule import MISSED, ScheduleSpec
from spear.spearlet.schedules.plan import ON_TIME_NS

_SCHEDULE = click.argument("schedule", metavar="ID|NAME")


@click.group()
def command() -> None:
    """Have a node invoke a task by itself: by a cron line, at an interval, or once."""


@command.command(short_help="Have a task invoked at certain times.")
@click.argument("task", metavar="TASK")
@ARGS
@click.option(
    "--cron",
    metavar="LINE",
    default="",
    help="Minute, hour, day, month, weekday, in UTC: '*/5 * * * *'.",
)
@click.option("--every", metavar="DURATION", help="An interval, such as 30s or 1h.")
@click.option("--at", metavar="TIME", help="Once: 2030-01-31T12:00, UTC unless it has an offset.")
@click.option("--input", "source", metavar="FILE|-", help="The payload of every run.")
@click.option(
    "--missed",
    type=click.Choice(MISSED),
    default="once",
    show_default=True,
    help="Runs that were due while the node was down: none, one for all, or each.",
)
@click.option("--overlap", is_flag=True, help="Start a run while the last one still runs.")
@click.option("--name", default="", help="To find it by.")
@call_options
@webhook_option
@on_node
async def add(
    visit: Visit, task: str, args: tuple[str, ...], cron: str, every: str | None, at: str | None,
    source: str | None, missed: str, overlap: bool, name: str, **call: str,
) -> int:  # fmt: skip
    """Have TASK invoked at the times that --cron, --every or --at says; one of them is needed.

    \b
    spear schedule add greet --every 10m -- Ada
    spear schedule add report --cron '0 6 * * 1-5' --missed all --input question.txt
    spear schedule add report --at 2030-01-31T12:00
    """
    if sum(bool(said) for said in (cron, every, at)) != 1:
        raise UsageError("one of --cron, --every and --at says when")
    spec = ScheduleSpec(
        task=task, cron=cron,
        every_ns=duration_ns("--every", every) if every else 0,
        at_ns=_moment(at, visit.clock.now_ns()) if at else 0,
        missed=missed, overlap=overlap, name=name,
        input=inputs.node_payload(source) if source else b"",
        invocation=invocation_of(args, **call),  # type: ignore[arg-type]
    )  # fmt: skip
    async with tasknames.nearest(visit.node, task):
        found = await visit.node.add_schedule(spec)
    due = words.age(found.next_ns, visit.clock.now_ns())
    visit.kept(found, f"schedule {found.id}: {tables.when(found.spec)}, next {due or 'never'}")
    return exits.OK


def _moment(text: str, now_ns: int) -> int:
    try:
        found = unix_ns_of(text)
    except ValueError:
        raise UsageError(f"--at takes a time such as 2030-01-31T12:00, not {text!r}") from None
    if found < now_ns - ON_TIME_NS:
        now = words.moment(now_ns)
        raise UsageError(f"--at takes a time to come: {text!r} is past, it is {now}")
    return found


@command.command("ls")
@on_node
async def ls(visit: Visit) -> int:
    """List the schedules and when they are due."""
    visit.show_all(tables.SCHEDULES, await visit.node.schedules())
    return exits.OK


@command.command()
@_SCHEDULE
@on_node
async def show(visit: Visit, schedule: str) -> int:
    """Show all that is known of a schedule."""
    visit.show(await ids.schedule_of(visit.node, schedule))
    return exits.OK


@command.command()
@_SCHEDULE
@on_node
async def rm(visit: Visit, schedule: str) -> int:
    """Remove a schedule; what it started goes on."""
    wanted = await ids.schedule_of(visit.node, schedule)
    found = await visit.node.remove_schedule(wanted.id)
    visit.done(found, f"schedule {found.id} is removed")
    return exits.OK

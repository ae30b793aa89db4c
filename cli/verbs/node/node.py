"""`spear node`: a look at a node, and its orderly end."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.screens import bars, overview
from spear.cli.visits.visit import Visit, on_node
from spear.units import parse_duration_ns


@click.group()
def command() -> None:
    """Look at a node, or drain it."""


@command.command()
@on_node
async def status(visit: Visit) -> int:
    """Show what the node says about itself, and its counts."""
    await overview.show(visit)
    return exits.OK


@command.command()
@click.option("--grace", metavar="DURATION", default="30s", show_default=True,
              help="How long what runs may go on.")  # fmt: skip
@on_node
async def drain(visit: Visit, grace: str) -> int:
    """Let the node take no more work, wait for what runs, and end.

    What waits is kept and goes on when the node is started again.

    \b
    spear node drain --grace 2m
    """
    grace_ns = parse_duration_ns(grace)
    with bars.waiting("draining"):
        await visit.node.drain(grace_ns)
    visit.answer({"drained": True}, "the node has drained\n")
    return exits.OK

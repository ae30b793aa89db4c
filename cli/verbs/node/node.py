"""`spear node`: a look at a node, its backup, and its orderly end."""

from __future__ import annotations

import os

import click

from spear import config as configuration
from spear.cli import exits, terminal
from spear.cli.screens import bars, overview, words
from spear.cli.visits.options import CONFIG, value_of
from spear.cli.visits.visit import Visit, on_node
from spear.units import parse_duration_ns


@click.group()
def command() -> None:
    """Look at a node, back it up, restore it, drain it."""


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
    grace_ns = value_of("--grace", parse_duration_ns, grace)
    with bars.waiting("draining"):
        await visit.node.drain(grace_ns)
    visit.answer({"drained": True}, "the node has drained\n")
    return exits.OK


@command.command()
@click.argument("folder", type=click.Path())
@on_node
async def backup(visit: Visit, folder: str) -> int:
    """Copy all that the node keeps into FOLDER, a new one on the node's machine, while it works.

    \b
    spear node backup ~/spear-backup
    """
    path = os.path.abspath(folder)
    with bars.waiting("backing up"):
        counts = await visit.node.backup(path)
    visit.answer(counts, f"{words.one_line(path)}: {overview.counted(counts)}\n")
    return exits.OK


@command.command()
@click.argument("folder", type=click.Path())
@CONFIG
@click.option(
    "--storage-path", metavar="DIR", help="The new data directory (default: as configured)."
)
@click.pass_context
def restore(
    context: click.Context, folder: str, path: str | None, storage_path: str | None
) -> None:
    """Make a data directory from the backup in FOLDER, for a node to be started on.

    The directory must not be there, or be empty; a node that runs is not touched.

    \b
    spear node restore ~/spear-backup --storage-path ~/restored
    spear up --storage-path ~/restored
    """
    import asyncio

    from spear.spearlet.node.upkeep import restore as restored

    flags = {} if storage_path is None else {"storage.data_dir": ("--storage-path", storage_path)}
    config = configuration.load(path, flags=flags, refusals=[])
    counts = asyncio.run(restored(os.path.abspath(folder), config.data_dir))
    said = f"{words.one_line(config.data_dir)}: {overview.counted(counts)}\n"
    terminal.write(terminal.STDOUT, said.encode("utf-8", "backslashreplace"))
    context.exit(exits.OK)

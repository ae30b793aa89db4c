"""`spear node`: a look at a node, its backup, and its orderly end."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

from spear import config as configuration
from spear.cli import exits, terminal
from spear.cli.screens import bars, overview, values, words
from spear.cli.visits.options import CONFIG, OUTPUT, duration_ns
from spear.cli.visits.visit import Visit, on_node

_STORAGE_PATH = click.option(
    "--storage-path", metavar="DIRECTORY", help="The data directory (default: as configured)."
)
_LOST_SHOWN = 20


@click.group()
def command() -> None:
    """Look at a node, drain it, back it up, restore it."""


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
    grace_ns = duration_ns("--grace", grace, zero=True)
    with bars.waiting("draining"):
        await visit.node.drain(grace_ns)
    visit.answer({"drained": True}, "the node has drained\n")
    return exits.OK


@command.command(short_help="Copy what the node keeps, while it works.")
@click.argument("folder", type=click.Path())
@on_node
async def backup(visit: Visit, folder: str) -> int:
    """Copy what the node keeps into FOLDER, a new one on the node's machine, while it works.

    Tasks, executions and their results, artifacts, schedules and durable objects are in it; logs
    are not, nor the secrets in the files token and webhook_key: a restored node makes new ones,
    unless those are copied into its directory before it starts.

    \b
    spear node backup ~/spear-backup
    """
    path = os.path.abspath(folder)
    with bars.waiting("backing up"):
        counts = await visit.node.backup(path)
    visit.answer(counts, f"{words.one_line(path)}: {overview.counted(counts)}\n")
    return exits.OK


@command.command(short_help="Make a data directory from a backup.")
@click.argument("folder", type=click.Path())
@_STORAGE_PATH
@CONFIG
@OUTPUT
@click.pass_context
def restore(
    context: click.Context, folder: str, storage_path: str | None, path: str | None, output: str
) -> None:
    """Make a data directory from the backup in FOLDER, for a node to be started on.

    The directory must not be there, or be empty; a node that runs is not touched.

    \b
    spear node restore ~/spear-backup --storage-path ~/restored
    spear up --storage-path ~/restored
    """
    import asyncio

    from spear.spearlet.node.upkeep import restore as restored

    data_dir = _data_dir(path, storage_path)
    counts = asyncio.run(restored(os.path.abspath(folder), data_dir))
    _say(f"{words.one_line(data_dir)}: {overview.counted(counts)}", counts, output)
    context.exit(exits.OK)


@command.command("accept-loss", short_help="Give up what damaged data has lost.")
@_STORAGE_PATH
@CONFIG
@OUTPUT
@click.pass_context
def accept_loss(
    context: click.Context, storage_path: str | None, path: str | None, output: str
) -> None:
    """Give up what a damaged data directory has lost, so that a node starts on what is left.

    For a node that says its metadata store is damaged, where there is no backup to restore. What
    is lost is told, by its key in the store. Damaged rows stay as they were in a folder beside;
    else it cannot be undone: copy the directory first.

    \b
    spear node accept-loss
    spear up
    """
    import asyncio

    from spear.spearlet.node.upkeep import accept_loss as accepted
    from spear.spearlet.node.upkeep import lost_before

    data_dir = _data_dir(path, storage_path)
    found = asyncio.run(accepted(data_dir))
    left = f"rows {found.rows}" if found.rows else "nothing"
    said = [f"{words.one_line(data_dir)}: {left} left, what is lost is given up"]
    if found.lost:
        said += [f"lost: {words.one_line(what)}" for what in found.lost[:_LOST_SHOWN]]
        if (more := len(found.lost) - _LOST_SHOWN) > 0:
            said.append(f"and {more} more: the list below has them all")
        said.append("a result or artifact of a lost row: the node deletes its file as garbage")
        said.append(
            "the damaged rows are in the folder below, which may be deleted once it is not needed"
        )
        said.append(words.one_line(found.kept_in))
    told_in = lost_before(data_dir)
    if told_in:
        said.append(f"what was given up last is listed in {words.one_line(told_in)}")
    fields = {
        "rows": found.rows, "lost": found.lost, "kept_in": found.kept_in, "listed_in": told_in,
    }  # fmt: skip
    _say("\n".join(said), fields, output)
    context.exit(exits.OK)


def _data_dir(path: str | None, storage_path: str | None) -> str:
    """Of the node of this machine, which does not run."""
    flags = {} if storage_path is None else {"storage.data_dir": ("--storage-path", storage_path)}
    return configuration.load(path, flags=flags, refusals=[]).data_dir


def _say(sentence: str, counts: Mapping[str, object], output: str) -> None:
    text = f"{sentence}\n".encode("utf-8", "backslashreplace")
    terminal.write(terminal.STDOUT, values.dump(counts) if output == "json" else text)

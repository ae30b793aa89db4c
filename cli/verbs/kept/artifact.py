"""`spear artifact`: the bytes that tasks run, by their sha256."""

from __future__ import annotations

import click

from spear.cli import exits
from spear.cli.screens import tables, words
from spear.cli.visits import files, paging, specs
from spear.cli.visits.visit import Visit, on_node
from spear.records.task import RUNTIMES
from spear.units import show_size

_DIGEST = click.argument("digest", metavar="DIGEST")


@click.group()
def command() -> None:
    """Put, look at, get and remove the bytes that tasks run.

    A DIGEST is a whole sha256 or its first 8 digits or more.
    """


@command.command(short_help="Keep the bytes of a file on the node.")
@click.argument("file", type=click.Path())
@click.option("--name", default="", help="A word of your own (default: the file's).")
@click.option("--version", default="", help="Another one.")
@click.option("--runtime", type=click.Choice(RUNTIMES), default="wasm", show_default=True)
@click.option("--needs", metavar="DIGEST", multiple=True,
              help="An artifact that must stay as long as this one.")  # fmt: skip
@on_node
async def put(
    visit: Visit, file: str, name: str, version: str, runtime: str, needs: tuple[str, ...]
) -> int:
    """Keep the bytes of FILE on the node; the same bytes again are the same artifact.

    \b
    spear artifact put greet.wasm --version 1.2
    """
    with files.opened(file) as opened:
        artifact = await specs.put(
            visit.node, opened, file, name=name or files.stem(file), version=version,
            runtime=runtime, dependencies=needs,
        )  # fmt: skip
    visit.named(artifact, artifact.digest, f"{words.one_line(file)} is kept")
    return exits.OK


@command.command("ls")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@on_node
async def ls(visit: Visit, limit: int) -> int:
    """List the artifacts."""
    visit.show_first(tables.ARTIFACTS, await paging.artifacts(visit.node, limit + 1), limit)
    return exits.OK


@command.command()
@_DIGEST
@on_node
async def show(visit: Visit, digest: str) -> int:
    """Show all that is known of an artifact."""
    visit.show(await visit.node.artifact(digest))
    return exits.OK


@command.command()
@_DIGEST
@click.option("-o", "target", metavar="FILE", help="Write it there; all of it, or nothing.")
@on_node
async def get(visit: Visit, digest: str, target: str | None) -> int:
    """Write the bytes of an artifact to stdout, or to FILE.

    \b
    spear artifact get 3f9a12bc -o greet.wasm
    """
    files.check_not_shown(target, "an artifact")
    found = await visit.node.artifact(digest)
    await files.save(visit, found, visit.node.read_artifact(found.digest), target)
    return exits.OK


@command.command()
@_DIGEST
@on_node
async def rm(visit: Visit, digest: str) -> int:
    """Remove an artifact. Refused while a task, an execution or another artifact needs it."""
    found = await visit.node.delete_artifact(digest)
    visit.done(found, f"artifact {found.digest} is removed, {show_size(found.size)}")
    return exits.OK

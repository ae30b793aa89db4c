"""`spear object`: values that agents and you share, under names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext

import click

from spear.cli import exits, terminal
from spear.cli.running import inputs
from spear.cli.screens import bars, tables, words
from spear.cli.visits import files, importing, paging
from spear.cli.visits.archive import archive
from spear.cli.visits.listener import listened
from spear.cli.visits.visit import Visit, on_node
from spear.records.objects import ObjectInfo
from spear.units import show_size

_BYTES_MAX = 1 << 30  # held in memory; a node's own limit is 64 MiB unless it says otherwise
_SHOWN_BYTES = 1 << 20  # what is larger may take a person's time
_KEY = click.argument("key", metavar="KEY")
_IF_VERSION = click.option(
    "--if-version", type=click.IntRange(0), metavar="N",
    help="Only if it is at this version; 0: only if it is not there.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Values that agents and you share, under names.

    KEY is a whole one: `shared/...` is common to all, `/TASK/...` belongs to a task.
    """


@command.command()
@_KEY
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--meta", metavar="NAME=VALUE", multiple=True, help="Kept beside the value.")
@click.option("--durable", is_flag=True, help="Answer once it survives a power cut.")
@click.option("--new", is_flag=True, help="Refuse where there is one already.")
@_IF_VERSION
@on_node
async def put(
    visit: Visit, key: str, file: str, meta: tuple[str, ...], durable: bool, new: bool,
    if_version: int | None,
) -> int:  # fmt: skip
    """Put the bytes of FILE, or of stdin, under KEY.

    \b
    echo '{"tone": "kind"}' | spear object put shared/settings
    spear object put shared/model model.onnx --durable --meta kind=onnx
    """
    value = inputs.whole(file, _BYTES_MAX, "put it in parts")
    metadata, large = inputs.pairs("--meta", meta), len(value) > _SHOWN_BYTES
    with bars.waiting(f"sending {show_size(len(value))}") if large else nullcontext():
        info = await visit.node.put_object(
            key, value, metadata=metadata, overwrite=not new, if_version=if_version,
            durable=durable,
        )  # fmt: skip
    visit.kept(info, f"{words.one_line(info.key)} is at version {info.version}")
    return exits.OK


@command.command()
@_KEY
@click.option("-o", "target", metavar="FILE", help="Write it there; all of it, or nothing.")
@on_node
async def get(visit: Visit, key: str, target: str | None) -> int:
    """Write the value under KEY to stdout, or to FILE.

    \b
    spear object get shared/settings
    """
    info, value = await visit.node.get_object(key)
    await files.save(visit, info, _once(value), target)
    return exits.OK


async def _once(value: bytes) -> AsyncIterator[bytes]:
    yield value


@command.command()
@_KEY
@on_node
async def stat(visit: Visit, key: str) -> int:
    """Show what is known of an object, without its value."""
    visit.show(await visit.node.stat_object(key))
    return exits.OK


@command.command("ls")
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@on_node
async def ls(visit: Visit, prefix: str, limit: int) -> int:
    """List the objects whose key begins with PREFIX."""
    found, more = await paging.objects(visit.node, limit, prefix)
    visit.show_all(tables.OBJECTS, found)
    if more:
        visit.tell(f"these are the first {limit}; --limit shows more")
    return exits.OK


@command.command()
@_KEY
@click.option("--force", is_flag=True, help="Also while it is referenced or pinned.")
@_IF_VERSION
@on_node
async def rm(visit: Visit, key: str, force: bool, if_version: int | None) -> int:
    """Remove an object. Refused while it is referenced or pinned."""
    await visit.node.delete_object(key, force=force, if_version=if_version)
    return _said(visit, key, "removed")


@command.command()
@_KEY
@_IF_VERSION
@on_node
async def pin(visit: Visit, key: str, if_version: int | None) -> int:
    """Keep an object from being evicted."""
    await visit.node.pin_object(key, if_version=if_version)
    return _said(visit, key, "pinned")


@command.command()
@_KEY
@_IF_VERSION
@on_node
async def unpin(visit: Visit, key: str, if_version: int | None) -> int:
    """Let an object be evicted again."""
    await visit.node.unpin_object(key, if_version=if_version)
    return _said(visit, key, "unpinned")


@command.command(short_help="Follow objects as they change.")
@click.argument("prefix", default="")
@click.option("--existing", is_flag=True, help="First each object as it is now.")
@on_node
async def watch(visit: Visit, prefix: str, existing: bool) -> int:
    """Follow the objects whose key begins with PREFIX as they change, until interrupted.

    \b
    spear object watch shared/ --output json
    """
    with listened():
        async for change in visit.node.watch_objects(prefix, existing=existing):
            info = change.info
            now = f"is at version {info.version}, {info.size} bytes"
            what = "is gone" if change.deleted else now
            visit.answer(change, f"{words.one_line(info.key)} {what}\n")
    return exits.OK


@command.command(short_help="Write objects as a tar archive, as of one moment.")
@click.argument("prefix", default="")
@click.option("-o", "target", metavar="FILE", help="Write it there; all of it, or nothing.")
@on_node
async def export(visit: Visit, prefix: str, target: str | None) -> int:
    """Write all objects whose key begins with PREFIX, as they are at one moment, as a tar archive.

    `spear object import` puts them on a node again.

    \b
    spear object export shared/ -o shared.tar
    spear object export shared/ | tar -tv
    """
    files.check_not_shown(target, "an archive")
    count = 0

    async def counted() -> AsyncIterator[tuple[ObjectInfo, bytes]]:
        nonlocal count
        async for found in visit.node.snapshot_objects(prefix):
            count += 1
            yield found

    parts = archive(counted())
    if target is None:
        async for part in parts:
            terminal.write(terminal.STDOUT, part)
    else:
        size = await files.write(parts, target)
        said = f"{words.one_line(target)}: objects {count}, {show_size(size)}\n"
        visit.answer({"file": target, "size": size, "objects": count}, said)
    if not count:
        visit.tell(f"there is no object whose key begins with {prefix!r}")
    return exits.OK


@command.command("import", short_help="Put the objects of an exported archive.")
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--replace", is_flag=True, help="Also where there is one of that key already.")
@on_node
async def import_(visit: Visit, file: str, replace: bool) -> int:
    """Put the objects of an archive that `spear object export` wrote, from FILE or stdin.

    Values, keys and metadata are as they were, and what was durable is; versions are new,
    references and pins are not kept. The archive is read and checked before anything is put. If one
    of its keys is there already nothing is put, unless --replace is given. Ends with another code
    than 0 if not all were put; then it says which.

    \b
    spear object import shared.tar
    spear object export shared/ | spear object import --node other:50052 --replace
    """
    with importing.archive_file(file) as opened:
        found = importing.checked(opened, file)
        return await importing.put_all(visit, opened, file, found, replace)


def _said(visit: Visit, key: str, what: str) -> int:
    visit.answer({"key": key, what: True}, f"{words.one_line(key)} is {what}\n")
    return exits.OK

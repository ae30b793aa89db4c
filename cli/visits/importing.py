"""Puts the objects of an archive on a node, and says exactly which.

The rule: the archive is checked whole before anything is put, and so are the keys that may not be
there yet; whatever fails after that is told with what was put by then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from spear.cli import exits, terminal
from spear.cli.arguments import UsageError
from spear.cli.screens import bars, words
from spear.cli.visits import files, unarchive
from spear.cli.visits.unarchive import Entry
from spear.cli.visits.visit import Visit
from spear.errors import AlreadyExists, InvalidArgument, ObjectNotFound, SpearError
from spear.records.node import Node
from spear.units import show_size

_AT_ONCE, _BYTES_AT_ONCE = 64, 8 << 20  # on their way to the node; one larger than that alone
_SHOWN = 10


@contextmanager
def archive_file(path: str) -> Iterator[IO[bytes]]:
    """A file that can be read twice: what comes from a pipe is kept until it was read."""
    if path == "-" and terminal.is_terminal(terminal.STDIN):
        raise UsageError("an archive does not come from a terminal: name a FILE, or pipe it")
    with open(terminal.STDIN, "rb", closefd=False) if path == "-" else files.opened(path) as file:
        if os.path.isfile(path) and path != "-":
            yield file
            return
        with tempfile.TemporaryFile() as kept:
            try:
                shutil.copyfileobj(file, kept)
            except OSError as error:
                raise InvalidArgument(f"cannot read {path!r}: {error.strerror}") from error
            yield kept


def checked(file: IO[bytes], path: str) -> list[Entry]:
    """All entries of the archive. Raises InvalidArgument."""
    size = file.seek(0, os.SEEK_END)
    found: list[Entry] = []
    with bars.moving(size, "checking") as advance:
        for entry in unarchive.entries(file, path):
            found.append(entry)
            advance(entry.size)
    return found


async def put_all(
    visit: Visit, file: IO[bytes], path: str, found: Sequence[Entry], replace: bool
) -> int:
    """The exit code. Raises AlreadyExists; then nothing was put."""
    if not replace:
        await _check_new(visit.node, found)
    failed: dict[str, SpearError] = {}
    count = size = 0
    with bars.moving(sum(entry.size for entry in found), "sending") as advance:
        try:
            for part in _parts(found):
                ends = await _put(visit.node, file, path, part, replace)
                failed = {entry.key: e for entry, e in zip(part, ends, strict=True) if e}
                put = [entry for entry in part if entry.key not in failed]
                count += len(put)
                size += sum(entry.size for entry in put)
                advance(sum(entry.size for entry in part))
                if failed:
                    break
        except asyncio.CancelledError:
            visit.tell(f"interrupted: at least the first {count} of {len(found)} objects are put")
            raise
    _say(visit, path, (count, size, len(found)), failed)
    return exits.of_error(next(iter(failed.values()))) if failed else exits.OK


async def _check_new(node: Node, found: Sequence[Entry]) -> None:
    there: list[str] = []
    for at in range(0, len(found), _AT_ONCE):
        part = found[at : at + _AT_ONCE]
        known = await asyncio.gather(*(_is_there(node, entry.key) for entry in part))
        there += [entry.key for entry, is_there in zip(part, known, strict=True) if is_there]
    if there:
        shown = ", ".join(map(repr, there[:_SHOWN])) + (", ..." if len(there) > _SHOWN else "")
        raise AlreadyExists(
            f"{len(there)} of {len(found)} objects are there already: {shown}; nothing was put, "
            "--replace puts them all the same"
        )


async def _is_there(node: Node, key: str) -> bool:
    try:
        await node.stat_object(key)
    except ObjectNotFound:
        return False
    return True


def _parts(found: Sequence[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for entry in found:
        if part and (len(part) == _AT_ONCE or size + entry.size > _BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(entry)
        size += entry.size
    if part:
        yield part


async def _put(
    node: Node, file: IO[bytes], path: str, part: Sequence[Entry], replace: bool
) -> list[SpearError | None]:
    """How each went; of the others nothing is left open when one fails."""

    async def put(entry: Entry) -> None:
        value = unarchive.value_of(file, path, entry)
        await node.put_object(
            entry.key, value, metadata=entry.metadata, overwrite=replace, durable=entry.durable
        )

    ends = await asyncio.gather(*map(put, part), return_exceptions=True)
    failed: list[SpearError | None] = []
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, SpearError):
            raise end
        failed.append(end if isinstance(end, SpearError) else None)
    return failed


def _say(
    visit: Visit, path: str, done: tuple[int, int, int], failed: dict[str, SpearError]
) -> None:
    count, size, of = done
    left = of - count - len(failed)
    lines = [f"{words.one_line(path)}: objects {count}, {show_size(size)}"]
    if failed:
        lines[0] += f"; {of - count} of {of} are not put"
        lines += [words.one_line(f"{key}: {error}") for key, error in failed.items()]
    if left:
        lines.append(f"the last {left} were not tried; --replace goes over all of them again")
    document = {
        "file": path, "objects": count, "size": size, "left": left,
        "failed": [{"key": key, "reason": str(error)} for key, error in failed.items()],
    }  # fmt: skip
    visit.answer(document, "".join(f"{line}\n" for line in lines))

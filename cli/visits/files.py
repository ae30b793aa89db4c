"""Files of the person who calls: read from, and written to so that they are whole or not there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import IO

import msgspec

from spear.cli import terminal
from spear.cli.arguments import UsageError
from spear.cli.visits.visit import Visit
from spear.errors import InvalidArgument, NotFound
from spear.units import show_size


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def opened(path: str) -> IO[bytes]:
    """For reading, from its beginning. Raises NotFound, InvalidArgument."""
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    except FileNotFoundError as error:
        raise NotFound(f"cannot read {path!r}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot read {path!r}: {reason}") from error
    return file


def check_not_shown(path: str | None, what: str) -> None:
    """Raises UsageError where bytes that nobody can read would go to a terminal."""
    if path is None and terminal.is_terminal(terminal.STDOUT):
        raise UsageError(f"{what} is not for a terminal: say -o FILE, or pipe it")


async def save(
    visit: Visit, record: msgspec.Struct, parts: AsyncIterator[bytes], path: str | None
) -> None:
    """The parts, to `path` or stdout; with a path, what was saved is said."""
    if path:
        count = await write(parts, path)
        visit.done(record, f"{path}: {show_size(count)}")
    else:
        async for part in parts:
            terminal.write(terminal.STDOUT, part)


async def write(parts: AsyncIterator[bytes], path: str) -> int:
    """A file under another name until all is there; a device or pipe as it is. Gives how many bytes
    it is. Raises InvalidArgument."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            return await _written(parts, path)
        draft = f"{path}.part"
        try:
            count = await _written(parts, draft)
            os.replace(draft, path)
        finally:
            with suppress(OSError):
                os.unlink(draft)
    except OSError as error:
        raise InvalidArgument(f"cannot write {path!r}: {error.strerror}") from error
    return count


async def _written(parts: AsyncIterator[bytes], path: str) -> int:
    count = 0
    with open(path, "wb") as file:
        async for part in parts:
            file.write(part)
            count += len(part)
    return count

"""Files of the person who calls: read from, and written to so that they are whole or not there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import IO

import msgspec

from spear.cli import terminal
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
    """Under another name until all is there; gives how many bytes it is. Raises
    InvalidArgument."""
    draft, count = f"{path}.part", 0
    try:
        with open(draft, "wb") as file:
            async for part in parts:
                file.write(part)
                count += len(part)
        os.replace(draft, path)
    except OSError as error:
        raise InvalidArgument(f"cannot write {path!r}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(draft)
    return count

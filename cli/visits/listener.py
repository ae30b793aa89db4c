"""Whether anybody still reads the stdout of a verb that follows something.

The rule: a pipe whose reader has gone ends the verb at once, not with its next line, which may
never come; a terminal and a file are always there.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from spear.cli import terminal


@contextmanager
def listened() -> Iterator[None]:
    """Around what follows, in its task. Raises BrokenPipeError once nobody reads."""
    if not _is_pipe(terminal.STDOUT):
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    gone = False

    def leave() -> None:  # a pipe's own end is readable only then
        nonlocal gone
        gone = loop.remove_reader(terminal.STDOUT)
        task.cancel()

    loop.add_reader(terminal.STDOUT, leave)
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise BrokenPipeError from None
    finally:
        loop.remove_reader(terminal.STDOUT)


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False

"""Writes to stdout and stderr, unbuffered.

The rule: bytes go straight to the descriptor, so nothing is left to be flushed when a pipe has
closed. What a guest says on stderr cannot steer a terminal: its control characters are escaped.
"""

from __future__ import annotations

import os

from spear.telemetry.escape import escape as escape

STDIN, STDOUT, STDERR = 0, 1, 2


def occupy_closed() -> None:
    """Takes the standard descriptors that are closed, so that no file opened later becomes one of
    them; using them fails as before."""
    for fd in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == STDIN else os.O_RDONLY)


def is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def write(fd: int, data: bytes) -> None:
    """Writes all of it. Raises OSError: BrokenPipeError where the reader has gone."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            _wait_writable(fd)


def _wait_writable(fd: int) -> None:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def say(text: str) -> None:
    """Lines for a person, on stderr. Nobody there to read them is no error."""
    shown = escape(text) if is_terminal(STDERR) else text
    try:
        write(STDERR, shown.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def say_error(sentence: str, hint: str = "") -> None:
    say(f"error: {sentence}\n" + (f"hint: {hint}\n" if hint else ""))

"""What moves while a person waits, on stderr: the bar of an upload, the mark of a wait.

The rule: only where stderr is a terminal, and nothing of it stays; the work is the same without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from spear.cli import terminal


async def counted(chunks: Iterator[bytes], size: int, label: str) -> AsyncIterator[bytes]:
    """The chunks, shown as they are taken."""
    with moving(size, label) as advance:
        for chunk in chunks:
            yield chunk
            advance(len(chunk))


def moving(size: int, label: str) -> AbstractContextManager[Callable[[int], None]]:
    """A bar of so many bytes while entered; what it gives is told how many more are done."""
    return _bar(size, label) if terminal.is_terminal(terminal.STDERR) else nullcontext(_unseen)


def _unseen(_: int) -> None:
    """Without a terminal."""


@contextmanager
def _bar(size: int, label: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    progress = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(), console=Console(stderr=True), transient=True,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    with progress:
        task = progress.add_task(label, total=size)
        yield lambda count: progress.advance(task, count)


def waiting(label: str) -> AbstractContextManager[object]:
    """Shows while entered that something is waited for."""
    if not terminal.is_terminal(terminal.STDERR):
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(label))

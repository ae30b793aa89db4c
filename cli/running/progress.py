"""The progress bar of repeated runs, on stderr.

The rule: imported only where stderr is a terminal, since rich costs more to import than a run; it
is drawn when asked, by the loop that also waits for the runs, and nothing of it stays.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.cli.running.summary import Tally


class ProgressBar:
    """Shows a tally while entered; what it gives draws it anew."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._progress = Progress(
            TextColumn("running"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=Console(stderr=True), auto_refresh=False, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=tally.count)

    def __enter__(self) -> Callable[[], None]:
        self._progress.start()
        return self._draw

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _draw(self) -> None:
        self._progress.update(self._task, completed=self._tally.ended, refresh=True)

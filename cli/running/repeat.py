"""`spear run --repeat N --parallel M`: many runs of one module on one node, and what they came to.

The rule: stdout gets the output of the first run, and nothing of the others, so that a pipe gets
what it gets from one run; with `--output json` it gets the one document. All else is said on
stderr, the progress bar only where that is a terminal. Runs are handles in flight on one event
loop; what is kept of them is bounded (summary.py).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractContextManager, nullcontext

from spear.cli import document, terminal
from spear.cli.arguments import UsageError, number
from spear.cli.running import summary
from spear.cli.running.inputs import unread_entries
from spear.clock import Clock
from spear.spearlet.library import Spearlet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spear.config import Config
    from spear.runtime.interface import LogLine
    from spear.spearlet.execution.artifact import Artifact
    from spear.spearlet.execution.execution import Execution
    from spear.spearlet.handle import Handle
    from spear.spearlet.options import RunOptions

_RUNS_MAX = 1_000_000
_BAR_SECONDS = 0.1
_RUNS_BETWEEN_TURNS = 64  # of one lane, whose guests may end before they are waited for


def main(
    config: Config, path: str, options: RunOptions, *, count: str | None, parallel: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Runs `path` as asked and gives the exit code: 0 if all runs completed, else that of one run
    as the first of the failed ones. Raises UsageError, SpearError where a run cannot be started,
    OSError where stdout cannot be written."""
    if count is None:
        raise UsageError("--parallel says how many repeated runs go at a time: add --repeat N")
    runs = number("--repeat", count, 1, _RUNS_MAX)
    lanes = len(os.sched_getaffinity(0)) if parallel is None else _lanes(parallel, config)
    tally = summary.Tally(runs, min(runs, lanes))
    _prepare(config, tally.parallel)
    artifact = asyncio.run(_Repetition(config, options, tally).run(path))
    if artifact is None:  # interrupted before the first run
        raise KeyboardInterrupt
    warnings = [artifact.program.warning] if artifact.program.warning else []
    warnings += unread_entries(options.get("config") or {})
    if as_json:
        content = summary.as_document(tally, artifact.program, warnings)
        terminal.write(terminal.STDOUT, document.dump(content))
    else:
        _say(tally, warnings)
    return tally.exit_code


def _lanes(text: str, config: Config) -> int:
    """As many as guests may live at once, a limit that only a configuration sets lower."""
    fixed = config.sources["executor.max_parked"] != "default"
    return number("--parallel", text, 1, config.guests_max if fixed else 20_000)


def _prepare(config: Config, lanes: int) -> None:
    """Room for the lanes; what has ended is not remembered, as nobody can ask for it."""
    if config.sources["executor.max_parked"] == "default":
        config.set("executor.max_parked", lanes, "spear run --parallel")
    if config.sources["history.count"] == "default":
        config.set("history.count", 0, "spear run --repeat")


class _Repetition:
    """The runs of one command."""

    def __init__(self, config: Config, options: RunOptions, tally: summary.Tally) -> None:
        self._config, self._options, self._tally = config, options.copy(), tally
        self._options["log_lines_max"] = summary.LOG_LINES_SHOWN_MAX
        self._options["log_stdout"] = False
        self._started = 0

    async def run(self, path: str) -> Artifact | None:
        """All of them, or those up to an interrupt, which is told in the tally; None where it came
        before the first."""
        artifact, clock = None, Clock()
        began_ns = clock.monotonic_ns()
        try:
            async with Spearlet(config=self._config) as node:
                artifact = await node.load(path, metered="fuel" in self._options)
                began_ns = clock.monotonic_ns()
                with _bar(self._tally) as draw:
                    await self._all(node, artifact, draw)
        except asyncio.CancelledError:
            self._tally.interrupted = True
        self._tally.elapsed_ns = clock.monotonic_ns() - began_ns
        return artifact

    async def _all(
        self, node: Spearlet, artifact: Artifact, draw: Callable[[], None] | None
    ) -> None:
        tasks = [
            asyncio.ensure_future(self._lane(node, artifact)) for _ in range(self._tally.parallel)
        ]
        painter = None if draw is None else asyncio.ensure_future(_paint(draw))
        try:
            await asyncio.gather(*tasks)
        finally:
            everything = tasks if painter is None else [*tasks, painter]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _lane(self, node: Spearlet, artifact: Artifact) -> None:
        """One run after another, until all are started."""
        while self._started < self._tally.count:
            self._started += 1
            number = self._started
            handle = await node.start(artifact, **self._options)
            execution = await handle
            self._tally.add(number, execution)
            if not execution.completed and self._tally.wants(number):
                self._tally.keep(summary.Failure(number, execution, await _last_logs(handle)))
            if number % _RUNS_BETWEEN_TURNS == 0:
                await asyncio.sleep(0)


async def _last_logs(handle: Handle) -> list[LogLine]:
    """The lines that are still kept, of a run that has ended."""
    return [line async for progress in handle.follow() for line in progress.logs]


def _bar(tally: summary.Tally) -> AbstractContextManager[Callable[[], None] | None]:
    """What draws the progress, on a terminal; gone at the end."""
    if not terminal.is_terminal(terminal.STDERR):
        return nullcontext()
    from spear.cli.running.progress import ProgressBar

    return ProgressBar(tally)


async def _paint(draw: Callable[[], None]) -> None:
    while True:
        draw()
        await asyncio.sleep(_BAR_SECONDS)


def _say(tally: summary.Tally, warnings: list[str]) -> None:
    """The first output, then for a person: warnings, the first failures, the table."""
    terminal.write(terminal.STDOUT, tally.output)
    if tally.output and not tally.output.endswith(b"\n") and _both_on_terminals():
        terminal.say("\n")
    for warning in warnings:
        terminal.say(f"warning: {warning}\n")
    for failure in tally.failures:
        terminal.say(_told(failure.number, failure.execution, failure.logs))
    if tally.interrupted:
        terminal.say_error("interrupted")
    terminal.say(summary.as_text(tally))


def _both_on_terminals() -> bool:
    return terminal.is_terminal(terminal.STDOUT) and terminal.is_terminal(terminal.STDERR)


def _told(number: int, execution: Execution, logs: Sequence[LogLine]) -> str:
    """How it ended, by its own words or its exit code, and the last of its log."""
    message = execution.error.message if execution.error else ""
    how = message or f"exit code {execution.exit_code}"
    lines = [
        f"    {'' if line.stream == 'stderr' else f'[{document.level_of(line)}] '}{part}\n"
        for line in logs
        for part in line.message.removesuffix("\n").split("\n")
    ]
    return f"run {number} {execution.status}: {how}\n{''.join(lines)}"

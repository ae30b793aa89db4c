"""Deterministic runs of `spear run`: recorded into a file, and replayed from one.

The rule: what decides the run (module, inputs, limits, seed) is compared before a step is taken,
and each step as it is taken; the first difference ends the run.
"""

from __future__ import annotations

import contextlib

from spear._core.engine import library
from spear.cli.arguments import UsageError, number
from spear.errors import InvalidArgument
from spear.spearlet import tracefile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from spear._core.executor import Executor
    from spear._core.trace import Step
    from spear.cli.arguments import Parsed
    from spear.cli.running.screen import JsonScreen, TextScreen
    from spear.spearlet.execution.artifact import Artifact
    from spear.spearlet.handle import SyncHandle
    from spear.spearlet.library import SyncSpearlet
    from spear.spearlet.options import RunOptions
    from spear.spearlet.tracefile import Trace

_LOOK_S = 0.1  # how often the steps are written while the guest says nothing
_SEED_MAX = (1 << 64) - 1


def recording_of(parsed: Parsed) -> Recording | None:
    """What the options ask for; None for a run in real time. Raises UsageError,
    InvalidArgument."""
    wanted = {name: parsed.last(name) for name in ("deterministic", "seed", "trace", "replay")}
    if all(value is None for value in wanted.values()):
        return None
    if wanted["deterministic"] is None and wanted["replay"] is None:
        flag = "--seed" if wanted["seed"] is not None else "--trace"
        raise UsageError(f"{flag} is for runs that are --deterministic")
    replay = None if wanted["replay"] is None else _read(wanted["replay"])
    seed = 0 if replay is None else int(replay.head["seed"])
    if wanted["seed"] is not None:
        asked = number("--seed", wanted["seed"], 0, _SEED_MAX)
        if replay is not None and asked != seed:
            raise UsageError(f"--seed {asked}: the recording has seed {seed}")
        seed = asked
    return Recording(seed, wanted["trace"], replay)


def _read(path: str) -> Trace:
    try:
        with open(path, encoding="utf-8") as file:
            return tracefile.read(file, path)
    except OSError as error:
        raise InvalidArgument(f"cannot read {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path!r} is no trace: {error}") from None


class Recording:
    """One deterministic run: `prepare` before it is started, `begin` once it is, `follow`, and
    `close` whatever happens."""

    def __init__(self, seed: int, path: str | None, replay: Trace | None) -> None:
        self.seed = seed
        self._path, self._replay = path, replay
        self._file: IO[str] | None = None
        self._differs = 0  # the number of the first step that differs; `_found` is that step
        self._found: Step | None = None
        self._steps: Executor | None = None

    def prepare(self, node: SyncSpearlet) -> None:
        self._steps = node.steps
        if self._path is not None or self._replay is not None:
            self._steps.record_steps()
        if self._replay is not None:
            self._steps.expect_steps([step.digest for step in self._replay.steps])

    def begin(self, artifact: Artifact, options: RunOptions, handle: SyncHandle) -> None:
        """Raises InvalidArgument where the recorded inputs were others, or no file can be made."""
        stdin = options["input"]
        assert isinstance(stdin, bytes)
        head = tracefile.head_of(
            engine=f"wasmtime {library()[0]}", module=artifact.digest, seed=self.seed,
            args=(options["name"], *options["args"]), env=options["env"],
            stdin=stdin, limits=handle.execution.limits,
        )  # fmt: skip
        if self._replay is not None:
            self._compare(self._replay, head)
        if self._path is not None:
            try:
                self._file = open(self._path, "w", encoding="utf-8")  # noqa: SIM115 (see close)
            except OSError as error:
                raise InvalidArgument(f"cannot write {self._path!r}: {error.strerror}") from error
            self._file.write(tracefile.head_line(head))

    def _compare(self, replay: Trace, head: dict[str, Any]) -> None:
        wrong = "; ".join(tracefile.differing(replay.head, head))
        if wrong:
            raise InvalidArgument(f"this is not the run that was recorded: {wrong}")

    def follow(self, handle: SyncHandle, screen: TextScreen | JsonScreen) -> None:
        """Shows the guest as it goes and takes note of its steps."""
        while True:
            with contextlib.suppress(TimeoutError):
                handle.wait(_LOOK_S)
            self._take()
            progress = handle.take()
            screen.show(progress)
            if progress.ended:
                return

    def _take(self) -> None:
        assert self._steps is not None
        for step in self._steps.take_steps():
            if self._replay is not None and not self._differs:
                self._look(self._replay, step)
            if self._file is not None:
                self._file.write(tracefile.step_line(step))

    def _look(self, replay: Trace, step: Step) -> None:
        if step.number > len(replay.steps) or step != replay.steps[step.number - 1]:
            self._differs, self._found = step.number, step

    def finish(self, handle: SyncHandle) -> str:
        """After the end: the last line of the file. Gives how the replay differed, or ""."""
        assert self._steps is not None
        record, count = handle.execution, self._steps.step_count
        end = tracefile.end_of(count, self._steps.digest, record.status, record.output)
        if self._file is not None:
            self._file.write(tracefile.end_line(end))
        if self._replay is None:
            return ""
        if self._differs:
            return tracefile.difference(self._replay, self._differs, self._found)
        if count < len(self._replay.steps):
            return tracefile.difference(self._replay, count + 1, None)
        return tracefile.end_difference(self._replay, end)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

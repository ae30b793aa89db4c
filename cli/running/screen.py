"""What a run shows while it goes and once it ended: as text, or as one JSON document.

The rule: the guest's stdout is our stdout, byte for byte, and all else goes to stderr; with JSON
the one document is all that stdout gets.
"""

from __future__ import annotations

from spear.cli import document, exits, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spear.cli.document import AnyLogLine
    from spear.records.execution import Execution as Record
    from spear.records.execution import ExecutionError as RecordError
    from spear.runtime.interface import Frame, Program
    from spear.spearlet.execution.execution import Execution, ExecutionError
    from spear.spearlet.handle import Progress


class TextScreen:
    """stdout to stdout, log lines and stderr to stderr, as they come."""

    def __init__(self) -> None:
        self._line_open = False  # the last line of stdout has no newline yet

    def warn(self, warning: str) -> None:
        terminal.say(f"warning: {warning}\n")

    def show(self, progress: Progress) -> None:
        self.take(progress.logs, progress.output)

    def take(self, logs: Sequence[AnyLogLine], output: bytes) -> None:
        """What a run gave since the last look."""
        for line in logs:
            if line.stream != "stdout":  # those bytes go to stdout themselves
                terminal.say(prefixed(line))
        terminal.write(terminal.STDOUT, output)
        if output:
            self._line_open = not output.endswith(b"\n")

    def end_line(self) -> None:
        """What comes next begins a line, also where the guest has not ended its last one."""
        if self._line_open and terminal.is_terminal(terminal.STDOUT):
            terminal.say("\n")
        self._line_open = False

    def close(
        self, execution: Execution | Record, program: Program | None, code: int | None
    ) -> None:
        """`code` is given where the end was not the guest's."""
        error = execution.error
        failed = error is not None and error.code != "EXIT"
        if failed:
            self.end_line()
        for warning in _warnings(execution):
            self.warn(warning)
        if code == exits.INTERRUPTED:
            terminal.say_error("interrupted")
        elif code is None and failed and error is not None:
            say_end(error)


class JsonScreen:
    """One document at the end, on stdout."""

    def __init__(self, logs: Sequence[AnyLogLine] = ()) -> None:
        self._logs: list[AnyLogLine] = list(logs)
        self._warnings: list[str] = []

    def warn(self, warning: str) -> None:
        self._warnings.append(warning)

    def show(self, progress: Progress) -> None:
        self.take(progress.logs, progress.output)

    def take(self, logs: Sequence[AnyLogLine], output: bytes) -> None:
        self._logs += logs  # the output is in the record

    def close(
        self, execution: Execution | Record, program: Program | None, code: int | None
    ) -> None:
        warnings = [*self._warnings, *_warnings(execution)]
        content = document.of_execution(execution, program, self._logs, warnings)
        terminal.write(terminal.STDOUT, document.dump(content))


def _warnings(execution: Execution | Record) -> list[str]:
    """What of the log is not shown."""
    found = []
    if execution.log_lost:
        lines = "1 log line" if execution.log_lost == 1 else f"{execution.log_lost} log lines"
        found.append(f"{lines} came too fast to be shown")
    if execution.log_truncated:
        found.append("the log reached its limit (limits.log); the rest is cut off")
    return found


_HINTS = {
    "DEADLINE": "--timeout gives it more time",
    "OUTPUT_LIMIT": "limits.output in the configuration allows more",
    "FUEL": "--fuel gives it more",
}


def say_end(error: ExecutionError | RecordError) -> None:
    """Where it was is shown where that helps: after a trap, and for what ran too long."""
    places = _places(error.backtrace) if error.code in ("TRAP", "DEADLINE") else ""
    terminal.say(f"error: {error.message or error.code.lower()}\n{places}")
    hint = _HINTS.get(error.code)
    if hint:
        terminal.say(f"hint: {hint}\n")


def _places(backtrace: Sequence[Frame]) -> str:
    """A line a frame, innermost first; frames that repeat are shown once with their number."""
    lines: list[tuple[str, int]] = []
    for frame in backtrace:
        place = frame.function
        if frame.offset is not None:
            place = f"{place} (module offset 0x{frame.offset:x})"
        again = lines.pop()[1] if lines and lines[-1][0] == place else 0
        lines.append((place, again + 1))
    return "".join(
        f"    at {place}{f', {count} times' if count > 1 else ''}\n" for place, count in lines
    )


def prefixed(line: AnyLogLine) -> str:
    """The line as shown; a guest cannot fake another line by a newline within its own."""
    mark = "" if line.stream == "stderr" else f"[{document.level_of(line)}] "
    parts = line.message.removesuffix("\n").split("\n")
    return "".join(f"{mark}{part}\n" for part in parts)

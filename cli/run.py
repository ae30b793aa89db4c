"""`spear run`: runs one module on a node in this process.

The rule: this stands on the shortest way from the command to the guest's first instruction, so it
imports nothing that a run does not need; the guest's stdout is our stdout, byte for byte.
"""

from __future__ import annotations

import os

from spear import config as configuration
from spear.cli import document, exits, terminal
from spear.cli.arguments import Option, UsageError, parse
from spear.clock import Clock
from spear.errors import EngineUnavailable, InvalidArgument, ModuleInvalid, ModuleLimit, SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spear.cli.arguments import Parsed
    from spear.config import Config
    from spear.runtime.interface import Frame, LogLine, Program
    from spear.spearlet.execution.artifact import Artifact
    from spear.spearlet.execution.execution import Execution
    from spear.spearlet.handle import Progress, SyncHandle
    from spear.spearlet.node import SyncSpearlet

OPTIONS = (
    Option("--input", "FILE|-", "The guest's stdin; - is ours, which is also the default unless "
           "it is a terminal."),
    Option("--env", "NAME=VALUE", "A variable of the guest's environment.", repeated=True),
    Option("--timeout", "DURATION", "Wall time, such as 250ms, 5s, 2m (default 60s)."),
    Option("--memory", "SIZE", "Limit of the guest's memory, such as 16MiB (default 64MiB)."),
    Option("--config", "FILE", "Configuration file instead of ~/.spear/config.toml."),
    Option("--output", "text|json", "json: one document with the record, the output and the log.",
           choices=("text", "json")),
)  # fmt: skip
_READ_BYTES = 1 << 16


def main(arguments: Sequence[str]) -> int:
    """Runs the verb and gives the exit code."""
    terminal.occupy_closed()
    parsed = None
    try:
        parsed = parse(arguments, OPTIONS)
        return _run(parsed)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except (SpearError, UsageError) as error:
        _refuse(error, as_json=parsed is not None and parsed.last("output") == "json")
        return exits.COULD_NOT


def _run(parsed: Parsed) -> int:
    from spear.spearlet.node import SyncSpearlet

    path = _operand(parsed)
    config = _config(parsed)
    with SyncSpearlet(config=config) as node:
        artifact = node.load(path)
        as_json = parsed.last("output") == "json"
        screen = JsonScreen() if as_json else TextScreen()
        if artifact.program.warning:
            screen.warn(artifact.program.warning)
        handle = _start(node, artifact, path, parsed, log_stdout=as_json)
        try:
            code = _follow(handle, screen)
        except BrokenPipeError:
            return exits.of_execution(handle.cancel("stdout was closed"))
        execution = handle.wait()
        screen.close(execution, artifact.program)
        return exits.of_execution(execution) if code is None else code


def _operand(parsed: Parsed) -> str:
    if not parsed.operands:
        raise UsageError("no module given: spear run FILE.wasm [-- ARGS]")
    if len(parsed.operands) > 1:
        extra = parsed.operands[1]
        raise UsageError(f"unexpected {extra!r}: arguments of the guest come after --")
    return parsed.operands[0]


def _config(parsed: Parsed) -> Config:
    """The node's configuration; one guest needs room for one."""
    flags: dict[str, tuple[str, object]] = {}
    for key, attribute in (("limits.timeout", "timeout"), ("limits.memory", "memory")):
        value = parsed.last(attribute)
        if value is not None:
            flags[key] = (f"--{attribute}", value)
    config = configuration.load(
        parsed.last("config"), flags=flags, defaults={"node_name": Clock().host_name()}
    )
    config.guests_max = config.workers = 1
    return config


def _start(
    node: SyncSpearlet, artifact: Artifact, path: str, parsed: Parsed, *, log_stdout: bool
) -> SyncHandle:
    """Lines of stdout are log lines too where the log is all that is shown."""
    return node.start(
        artifact,
        name=os.path.splitext(os.path.basename(path))[0],
        args=parsed.rest,
        env=_environment(parsed.values.get("env", [])),
        input=_input(parsed.last("input"), node.config),
        timeout=node.config.text("limits.timeout"),
        log_stdout=log_stdout,
    )


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    env = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--env takes NAME=VALUE, not {pair!r}")
        env[name] = value
    return env


def _input(source: str | None, config: Config) -> bytes:
    if source is None and terminal.is_terminal(terminal.STDIN):
        return b""
    if source is None or source == "-":
        return _read_stdin(config.input_bytes_max, asked=source is not None)
    try:
        with open(source, "rb") as file:
            return file.read(config.input_bytes_max + 1)  # one more: the services refuse it
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"cannot read the input {source!r}: {reason}") from error


def _read_stdin(bytes_max: int, *, asked: bool) -> bytes:
    """All of stdin, up to one byte more than allowed; a closed one is empty unless asked for."""
    parts, size = [], 0
    try:
        while size <= bytes_max and (part := os.read(terminal.STDIN, _READ_BYTES)):
            parts.append(part)
            size += len(part)
    except OSError as error:
        if asked:
            raise InvalidArgument(f"cannot read stdin: {error.strerror}") from error
    return b"".join(parts)[: bytes_max + 1]


def _follow(handle: SyncHandle, screen: TextScreen | JsonScreen) -> int | None:
    """Shows the guest as it goes; the exit code where that is not the guest's to say. Raises
    BrokenPipeError where nobody reads stdout any more."""
    try:
        for progress in handle.follow():
            screen.show(progress)
    except KeyboardInterrupt:
        return _interrupt(handle, screen)
    except BrokenPipeError:
        raise
    except OSError as error:
        handle.cancel("stdout cannot be written")
        terminal.say_error(f"cannot write the guest's output: {error.strerror}")
        return exits.COULD_NOT
    return None


def _interrupt(handle: SyncHandle, screen: TextScreen | JsonScreen) -> int:
    try:
        handle.cancel("interrupted")
        for progress in handle.follow():
            screen.show(progress)
    except (KeyboardInterrupt, OSError):
        pass
    return exits.INTERRUPTED


class TextScreen:
    """stdout to stdout, log lines and stderr to stderr, as they come."""

    def warn(self, warning: str) -> None:
        terminal.say(f"warning: {warning}\n")

    def show(self, progress: Progress) -> None:
        for line in progress.logs:
            if line.stream != "stdout":  # those bytes go to stdout themselves
                terminal.say(_prefixed(line))
        terminal.write(terminal.STDOUT, progress.output)

    def close(self, execution: Execution, program: Program) -> None:
        if execution.log_lost:
            self.warn(f"{execution.log_lost} log lines came too fast to be shown")
        if execution.log_truncated:
            self.warn("the log reached its limit (limits.log); the rest is cut off")
        error = execution.error
        if error is None or error.code == "EXIT":
            return
        terminal.say(f"error: {error.message or error.code.lower()}\n{_places(error.backtrace)}")
        hint = _HINTS.get(error.code)
        if hint:
            terminal.say(f"hint: {hint}\n")


class JsonScreen:
    """One document at the end, on stdout."""

    def __init__(self) -> None:
        self._logs: list[LogLine] = []
        self._warnings: list[str] = []

    def warn(self, warning: str) -> None:
        self._warnings.append(warning)

    def show(self, progress: Progress) -> None:
        self._logs += progress.logs

    def close(self, execution: Execution, program: Program) -> None:
        _print(document.of_execution(execution, program, self._logs, self._warnings))


_HINTS = {
    "DEADLINE": "--timeout gives it more time",
    "OUTPUT_LIMIT": "limits.output in the configuration allows more",
}


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


def _prefixed(line: LogLine) -> str:
    """The line as shown; a guest cannot fake another line by a newline within its own."""
    mark = "" if line.stream == "stderr" else f"[{document.LEVELS[line.level]}] "
    parts = line.message.removesuffix("\n").split("\n")
    return "".join(f"{mark}{part}\n" for part in parts)


def _refuse(error: SpearError | UsageError, *, as_json: bool) -> None:
    hint = _hint(error)
    if as_json:
        _print(document.of_refusal(error, str(error), hint))
    else:
        terminal.say_error(str(error), hint)


def _hint(error: Exception) -> str:
    if isinstance(error, UsageError):
        return "spear run --help shows the options"
    if isinstance(error, ModuleLimit) and "memory" in str(error):
        return "--memory raises the limit, as in --memory 256MiB"
    if isinstance(error, ModuleInvalid):
        return "spear doctor FILE.wasm shows what the module is and needs"
    if isinstance(error, EngineUnavailable):
        return "spear doctor shows what this machine lacks"
    return ""


def _print(content: dict[str, object]) -> None:
    try:
        terminal.write(terminal.STDOUT, document.dump(content))
    except BrokenPipeError:
        return
    except OSError as error:
        terminal.say_error(f"cannot write the document: {error.strerror}")

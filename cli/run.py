"""`spear run`: runs one module on a node in this process.

The rule: this stands on the shortest way from the command to the guest's first instruction, so it
imports nothing that a run does not need; the guest's stdout is our stdout, byte for byte.
"""

from __future__ import annotations

import os

from spear import config as configuration
from spear.cli import document, exits, terminal
from spear.cli.arguments import Option, UsageError, asks_for, number, parse
from spear.clock import Clock
from spear.errors import EngineUnavailable, InvalidArgument, ModuleInvalid, ModuleLimit, SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spear._core.filetable import Directory
    from spear._core.wasmfile import WasmFile
    from spear.cli.arguments import Parsed
    from spear.cli.recording import Recording
    from spear.config import Config
    from spear.runtime.interface import Frame, LogLine, Program
    from spear.spearlet.execution.artifact import Artifact
    from spear.spearlet.execution.execution import Execution, ExecutionError
    from spear.spearlet.handle import Progress, SyncHandle
    from spear.spearlet.library import SyncSpearlet
    from spear.spearlet.options import RunOptions

OPTIONS = (
    Option("--input", "FILE|-", "The guest's stdin; - is ours, which is also the default unless "
           "it is a terminal."),
    Option("--env", "NAME=VALUE", "A variable of the guest's environment.", repeated=True),
    Option("--dir", "HOST[:GUEST][:ro|rw]", "A directory the guest may use, read-only unless :rw "
           "is said; GUEST is its name there.", repeated=True),
    Option("--timeout", "DURATION", "Wall time, such as 250ms, 5s, 2m (default 60s)."),
    Option("--memory", "SIZE", "Limit of the guest's memory, such as 16MiB (default 64MiB)."),
    Option("--fuel", "N", "Limit of the work itself, in units of about one instruction."),
    Option("--deterministic", "", "Clock, randomness and order come from the inputs and the seed "
           "alone, so the run is the same each time."),
    Option("--seed", "N", "Seed of a deterministic run (default 0)."),
    Option("--trace", "FILE", "Record the steps of a deterministic run."),
    Option("--replay", "FILE", "Run again as recorded; stops at the first difference."),
    Option("--config", "FILE", "Configuration file instead of ~/.spear/config.toml."),
    Option("--output", "text|json", "json: one document with the record, the output and the log.",
           choices=("text", "json")),
    Option("--repeat", "N", "Run it N times, then sum up: how they ended, how long they took."),
    Option("--parallel", "M", "At most M of the repeated runs at a time (default: one a core)."),
)  # fmt: skip
UNSERVED = {
    "--set": "tasks have no config here (no MCP, no models); settings are in --config FILE",
}
_READ_BYTES = 1 << 16
_FUEL_MAX = 1 << 62
_LOG_LINES_MAX = 1 << 18  # a burst of this length is shown in full


def main(arguments: Sequence[str]) -> int:
    """Runs the verb and gives the exit code. Raises OSError where stdout cannot be written."""
    parsed = None
    try:
        parsed = parse(arguments, OPTIONS, UNSERVED)
        return _run(parsed)
    except KeyboardInterrupt:
        refusal, code = ("INTERRUPTED", "interrupted", ""), exits.INTERRUPTED
    except (SpearError, UsageError) as error:
        refusal = (document.code_of(error), str(error), _hint(error, parsed))
        code = exits.COULD_NOT
    if asks_for(arguments, "--output", "json") if parsed is None else _as_json(parsed):
        terminal.write(terminal.STDOUT, document.dump(document.of_refusal(*refusal)))
    else:
        terminal.say_error(*refusal[1:])
    return code


def _as_json(parsed: Parsed) -> bool:
    return parsed.last("output") == "json"


def _run(parsed: Parsed) -> int:
    path = _operand(parsed)
    config = _config(parsed)
    recording = _recording(parsed)
    if "repeat" in parsed.values or "parallel" in parsed.values:
        if recording is not None:
            raise UsageError("a deterministic run is one run: leave out --repeat and --parallel")
        from spear.cli import repeat

        return repeat.main(
            config, path, _options(parsed, path, config), count=parsed.last("repeat"),
            parallel=parsed.last("parallel"), as_json=_as_json(parsed),
        )  # fmt: skip
    return _run_once(parsed, path, config, recording)


def _run_once(parsed: Parsed, path: str, config: Config, recording: Recording | None) -> int:
    from spear.spearlet.library import SyncSpearlet

    _make_room_for_one(config)
    with SyncSpearlet(config=config, seed=recording.seed if recording else None) as node:
        artifact = node.load(path, metered="fuel" in parsed.values)
        screen = JsonScreen() if _as_json(parsed) else TextScreen()
        if artifact.program.warning:
            screen.warn(artifact.program.warning)
        options = _options(parsed, path, config)
        if recording is not None:
            return _run_recorded(node, artifact, options, screen, recording)
        handle = node.start(artifact, **options)
        code = _follow(handle, screen)
        execution = handle.wait()
        screen.close(execution, artifact.program, code)
        return exits.of_execution(execution) if code is None else code


def _recording(parsed: Parsed) -> Recording | None:
    if not {"deterministic", "seed", "trace", "replay"} & parsed.values.keys():
        return None
    from spear.cli.recording import recording_of

    return recording_of(parsed)


def _run_recorded(
    node: SyncSpearlet, artifact: Artifact, options: RunOptions,
    screen: TextScreen | JsonScreen, recording: Recording,
) -> int:  # fmt: skip
    recording.prepare(node)
    handle = node.start(artifact, **options)
    try:
        recording.begin(artifact, options, handle)
        code = _follow(handle, screen, recording)
        execution = handle.wait()
        differs = recording.finish(handle) if code is None else ""
    finally:
        recording.close()
    if differs:
        code = exits.COULD_NOT
        screen.warn(differs)
    screen.close(execution, artifact.program, code)
    return exits.of_execution(execution) if code is None else code


def _operand(parsed: Parsed) -> str:
    if not parsed.operands:
        raise UsageError("no module given: spear run FILE.wasm [-- ARGS]")
    if len(parsed.operands) > 1:
        extra = parsed.operands[1]
        raise UsageError(f"unexpected {extra!r}: arguments of the guest come after --")
    return parsed.operands[0]


def _config(parsed: Parsed) -> Config:
    """The node's configuration with the flags in it."""
    flags: dict[str, tuple[str, object]] = {}
    for key, attribute in (("limits.timeout", "timeout"), ("limits.memory", "memory")):
        value = parsed.last(attribute)
        if value is not None:
            flags[key] = (f"--{attribute}", value)
    return configuration.load(
        parsed.last("config"), flags=flags, defaults={"node_name": Clock().host_name()}
    )


def _make_room_for_one(config: Config) -> None:
    """One guest needs room for one, unless more is asked for."""
    for key in ("executor.workers", "executor.max_parked"):
        if config.sources[key] == "default":
            config.set(key, 1, "spear run")


def _options(parsed: Parsed, path: str, config: Config) -> RunOptions:
    """How the guest is run; stdin is read here. Lines of stdout are log lines too where the log is
    all that is shown."""
    options: RunOptions = {
        "name": os.path.splitext(os.path.basename(path))[0],
        "args": parsed.rest,
        "env": _environment(parsed.values.get("env", [])),
        "input": _input(parsed.last("input"), config),
        "timeout": config.timeout_ns / 1e9,
        "log_lines_max": _LOG_LINES_MAX,
        "log_stdout": _as_json(parsed),
        "dirs": _directories(parsed.values.get("dir", [])),
    }
    fuel = parsed.last("fuel")
    if fuel is not None:
        options["fuel"] = number("--fuel", fuel, 1, _FUEL_MAX)
    return options


def _environment(pairs: Sequence[str]) -> dict[str, str]:
    env = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--env takes NAME=VALUE, not {pair!r}")
        env[name] = value
    return env


def _directories(grants: Sequence[str]) -> list[Directory]:
    """Opened here: a path that is replaced later is not what was granted."""
    if not grants:
        return []
    from spear._core.filetable import Directory

    found = []
    for grant in grants:
        host, guest, mode = _grant(grant)
        found.append(Directory(host, guest, writable=mode == "rw"))
    return found


def _grant(text: str) -> tuple[str, str, str]:
    """Host path, the guest's name for it ("": the same), mode. A last part that is a mode is
    one: a guest's name `rw` is written HOST:rw:rw."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) > 1 and parts[-1] in ("ro", "rw") else "ro"
    if len(parts) == 3:
        raise UsageError(f"--dir {text}: the mode is ro or rw, not {parts[2]!r}")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"--dir takes HOST, HOST:GUEST or HOST:GUEST:ro|rw, not {text!r}")
    return parts[0], parts[1] if len(parts) > 1 else "", mode


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


def _follow(
    handle: SyncHandle, screen: TextScreen | JsonScreen, recording: Recording | None = None
) -> int | None:
    """Shows the guest as it goes; the exit code where that is not the guest's to say. Raises
    BrokenPipeError where nobody reads stdout any more."""
    try:
        if recording is not None:
            recording.follow(handle, screen)
        else:
            for progress in handle.follow():
                screen.show(progress)
    except KeyboardInterrupt:
        return _interrupt(handle, screen)
    except BrokenPipeError:
        handle.cancel("stdout was closed")
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

    def __init__(self) -> None:
        self._line_open = False  # the last line of stdout has no newline yet

    def warn(self, warning: str) -> None:
        terminal.say(f"warning: {warning}\n")

    def show(self, progress: Progress) -> None:
        for line in progress.logs:
            if line.stream != "stdout":  # those bytes go to stdout themselves
                terminal.say(_prefixed(line))
        terminal.write(terminal.STDOUT, progress.output)
        if progress.output:
            self._line_open = not progress.output.endswith(b"\n")

    def close(self, execution: Execution, program: Program, code: int | None) -> None:
        """`code` is given where the end was not the guest's."""
        error = execution.error
        failed = error is not None and error.code != "EXIT"
        if failed and self._line_open and terminal.is_terminal(terminal.STDOUT):
            terminal.say("\n")
        for warning in _warnings(execution):
            self.warn(warning)
        if code == exits.INTERRUPTED:
            terminal.say_error("interrupted")
        elif code is None and failed and error is not None:
            _say_end(error)


class JsonScreen:
    """One document at the end, on stdout."""

    def __init__(self) -> None:
        self._logs: list[LogLine] = []
        self._warnings: list[str] = []

    def warn(self, warning: str) -> None:
        self._warnings.append(warning)

    def show(self, progress: Progress) -> None:
        self._logs += progress.logs

    def close(self, execution: Execution, program: Program, code: int | None) -> None:
        warnings = [*self._warnings, *_warnings(execution)]
        content = document.of_execution(execution, program, self._logs, warnings)
        terminal.write(terminal.STDOUT, document.dump(content))


def _warnings(execution: Execution) -> list[str]:
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


def _say_end(error: ExecutionError) -> None:
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


def _prefixed(line: LogLine) -> str:
    """The line as shown; a guest cannot fake another line by a newline within its own."""
    mark = "" if line.stream == "stderr" else f"[{document.LEVELS[line.level]}] "
    parts = line.message.removesuffix("\n").split("\n")
    return "".join(f"{mark}{part}\n" for part in parts)


def _hint(error: Exception, parsed: Parsed | None) -> str:
    if isinstance(error, UsageError):
        return "spear run --help shows the options"
    if isinstance(error, ModuleLimit) and error.key:
        return f"{error.key} in the configuration allows more"
    if isinstance(error, ModuleLimit) and parsed is not None:
        return _memory_hint(parsed)
    if isinstance(error, ModuleInvalid):
        module = None if parsed is None else _scanned(parsed)
        if module is not None and module.reactor:
            return (
                "it is a reactor, not a command: its functions are called from Python, as "
                "examples/reactor shows; spear doctor FILE.wasm lists them"
            )
        return "spear doctor FILE.wasm shows what the module is and needs"
    if isinstance(error, EngineUnavailable):
        return "spear doctor shows what this machine lacks"
    return ""


def _memory_hint(parsed: Parsed) -> str:
    """The --memory that the module needs, where memory is what it lacks."""
    module = _scanned(parsed)
    if module is None or module.memory_min_bytes <= _config(parsed).memory_bytes_max:
        return ""
    needed = configuration.format_size(module.memory_min_bytes)
    return f"--memory {needed} is enough for it to start"


def _scanned(parsed: Parsed) -> WasmFile | None:
    """What the module says about itself; None where it cannot be read."""
    from spear._core import wasmfile

    try:
        with open(parsed.operands[0], "rb") as file:
            return wasmfile.scan(file.read())
    except (OSError, SpearError):
        return None

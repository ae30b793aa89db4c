"""`spear run`: runs one module on a node in this process.

The rule: this stands on the shortest way from the command to the guest's first instruction, so it
imports nothing that a run does not need; the guest's stdout is our stdout, byte for byte.
"""

from __future__ import annotations

import os

from spear import config as configuration
from spear.cli import document, exits, terminal
from spear.cli.arguments import Option, UsageError, asks_for, number, parse
from spear.cli.running.inputs import directories, entries, environment, payload, unread_entries
from spear.cli.running.screen import JsonScreen, TextScreen
from spear.clock import Clock
from spear.errors import SpearError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from spear.cli.arguments import Parsed
    from spear.cli.running.recording import Recording
    from spear.config import Config
    from spear.spearlet.execution.artifact import Artifact
    from spear.spearlet.handle import SyncHandle
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
           "alone, so the run is the same each time; models and other tasks are not served in it."),
    Option("--seed", "N", "Seed of a deterministic run (default 0)."),
    Option("--trace", "FILE", "Record the steps of a deterministic run."),
    Option("--replay", "FILE", "Run again as recorded; stops at the first difference."),
    Option("--set", "KEY=VALUE", "An entry of the task's config, such as llm.backends=local or "
           "budget.tokens=5000.", repeated=True),
    Option("--node", "ADDRESS", "By the node at unix:PATH or HOST:PORT, not in this process."),
    Option("--ca", "FILE", "Who signs the certificate of that node (PEM); SPEAR_CA."),
    Option("--token-file", "FILE", "The token of that node; SPEAR_TOKEN_FILE."),
    Option("--config", "FILE", "Configuration file instead of ~/.spear/config.toml."),
    Option("--output", "text|json", "json: one document with the record, the output and the log.",
           choices=("text", "json")),
    Option("--repeat", "N", "Run it N times, then sum up: how they ended, how long they took."),
    Option("--parallel", "M", "At most M of the repeated runs at a time (default: one a core)."),
)  # fmt: skip
_FUEL_MAX = 1 << 62
_LOG_LINES_MAX = 1 << 18  # a burst of this length is shown in full


def main(arguments: Sequence[str]) -> int:
    """Runs the verb and gives the exit code. Raises OSError where stdout cannot be written."""
    parsed = None
    try:
        parsed = parse(arguments, OPTIONS)
        return _run(parsed)
    except KeyboardInterrupt:
        refusal, code = ("INTERRUPTED", "interrupted", ""), exits.INTERRUPTED
    except (SpearError, UsageError) as error:
        from spear.cli.running.hints import hint

        refusal = (document.code_of(error), str(error), hint(error, parsed))
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
    config = config_of(parsed)
    if "node" in parsed.values:
        from spear.cli.running import remote

        return remote.main(parsed, path, config)
    recording = _recording(parsed)
    if "repeat" in parsed.values or "parallel" in parsed.values:
        if recording is not None:
            raise UsageError("a deterministic run is one run: leave out --repeat and --parallel")
        from spear.cli.running import repeat

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
        for warning in unread_entries(options.get("config") or {}):
            screen.warn(warning)
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
    from spear.cli.running.recording import recording_of

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


def config_of(parsed: Parsed) -> Config:
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
        "env": environment(parsed.values.get("env", [])),
        "input": payload(parsed.last("input"), config.input_bytes_max),
        "timeout": config.timeout_ns / 1e9,
        "log_lines_max": _LOG_LINES_MAX,
        "log_stdout": _as_json(parsed),
        "dirs": directories(parsed.values.get("dir", [])),
    }
    if "set" in parsed.values:
        options["config"] = entries(parsed.values["set"])
    fuel = parsed.last("fuel")
    if fuel is not None:
        options["fuel"] = number("--fuel", fuel, 1, _FUEL_MAX)
    return options


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

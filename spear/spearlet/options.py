"""How to run a module: the options of one execution, checked and filled in.

The rule: every option is checked here, whichever door it came by; what is not given comes from the
configuration.
"""

from __future__ import annotations

from spear.config import parse_count
from spear.errors import InvalidArgument
from spear.runtime.invocation import Invocation
from spear.spearlet.arguments import (
    arguments_of,
    bytes_of,
    entry_of,
    environment_of,
    grants_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    from typing_extensions import Buffer

    from spear._core.filetable import Directory
    from spear.config import Config

    class RunOptions(TypedDict, total=False):
        """How to run a module; sizes are in bytes or text ("16MiB"), times in seconds or text
        ("250ms")."""

        name: str  # of the task, and the guest's argv[0]; else the file's stem
        args: Sequence[str]  # behind argv[0]
        env: Mapping[str, str]  # the guest's whole environment
        input: Buffer | str  # its stdin, copied
        timeout: float | str
        memory: int | str  # limit of linear memory
        output: int | str  # limit of what it writes to stdout
        log: int | str  # limit of its log
        fuel: int | str  # limit of the work itself, in about instructions; None: no limit
        log_lines_max: int | str  # kept for a late reader, the newest; 2048, up to 262144
        log_stdout: bool  # each line of stdout is a log line too; see Progress
        entry: str  # the exported function, else `_start`
        config: Mapping[str, str]  # as of a task: llm.backends, budget.*
        dirs: Sequence[Directory]  # that it may use, under the names they have for guests
        object_grants: Sequence[str]  # tasks whose objects it may use, beside those of /<name>/
        priority: str  # urgent, high, normal or low


_KNOWN = frozenset((
    "name", "args", "env", "input", "timeout", "memory", "output", "log", "fuel", "log_lines_max",
    "log_stdout", "entry", "priority", "object_grants", "dirs", "config",
))  # fmt: skip
_LOG_LINES_DEFAULT, _LOG_LINES_MAX = 2048, 262_144
_FUEL_MAX = 1 << 62
_PRIORITIES = {"urgent": 0, "high": 64, "normal": 128, "low": 192}


def invocation_of(
    config: Config, task_name: str, options: RunOptions, *, inline: bool, waited: bool
) -> Invocation:
    """Raises InvalidArgument, and TypeError for an option there is not."""
    for name in options:
        if name not in _KNOWN:
            raise TypeError(f"no option {name!r}: known are {', '.join(sorted(_KNOWN))}")
    environment = environment_of(options.get("env"))
    timeout_key = "limits.timeout" if waited else "limits.async_timeout"

    def check_input(size: int) -> None:
        if size > config.input_bytes_max:
            raise InvalidArgument(too_large("the input", "limits.input", config))

    return Invocation(
        entry=entry_of(options.get("entry", "")),
        args=arguments_of(task_name, options.get("args", ()), environment),
        env=environment,
        stdin=bytes_of("the input", options.get("input", b""), check_input),
        timeout_ns=config.number(timeout_key, options.get("timeout")),
        memory_bytes_max=config.number("limits.memory", options.get("memory")),
        output_bytes_max=config.number("limits.output", options.get("output")),
        log_bytes_max=config.number("limits.log", options.get("log")),
        log_lines_max=_log_lines(options.get("log_lines_max")),
        log_stdout=bool(options.get("log_stdout", True)),
        dirs=tuple(options.get("dirs", ())),
        descriptors_max=config.descriptors_max,
        fuel=_fuel(options.get("fuel")),
        priority=_priority(options.get("priority", "normal")),
        inline=inline,
        task=task_name,
        object_grants=grants_of(options.get("object_grants", ())),
    )


def config_of(options: RunOptions) -> Mapping[str, str]:
    """Raises InvalidArgument."""
    config = options.get("config", {})
    if config:
        from spear.spearlet.taskconfig import check_config

        check_config(config)
    return config


def too_large(what: str, key: str, config: Config) -> str:
    return f"{what} is longer than {key}, {config.text(key)}"


def _log_lines(count: int | str | None) -> int:
    found = _LOG_LINES_DEFAULT if count is None else parse_count(count)
    if not 1 <= found <= _LOG_LINES_MAX:
        raise InvalidArgument(f"log_lines_max: expected 1 to {_LOG_LINES_MAX}, found {count}")
    return found


def _fuel(amount: int | str | None) -> int | None:
    if amount is None:
        return None
    found = parse_count(amount)
    if not 1 <= found <= _FUEL_MAX:
        raise InvalidArgument(f"fuel: expected 1 to {_FUEL_MAX}, found {amount}")
    return found


def _priority(name: str) -> int:
    if name not in _PRIORITIES:
        raise InvalidArgument(f"priority: expected one of {', '.join(_PRIORITIES)}, found {name!r}")
    return _PRIORITIES[name]

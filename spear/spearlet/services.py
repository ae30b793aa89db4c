"""What a node does for its callers: plain async methods, from plain values to records.

The rule: every door (the library, later gRPC and frames) calls these and only adapts. Here values
are checked and defaults filled in; the manager decides the rest.
"""

from __future__ import annotations

import os

from spear.config import parse_count, parse_duration_ns
from spear.errors import InvalidArgument
from spear.runtime.invocation import Invocation
from spear.runtime.waiting import offload
from spear.spearlet.arguments import arguments_of, bytes_of, entry_of, environment_of, task_name_of
from spear.spearlet.execution.artifact import Artifact
from spear.spearlet.execution.execution import STATUSES, Execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict, Unpack

    from typing_extensions import Buffer

    from spear._core.filetable import Directory
    from spear.config import Config
    from spear.spearlet.execution.live import Live
    from spear.spearlet.execution.manager import Manager

    Source = Buffer | str | os.PathLike[str] | Artifact

    class RunOptions(TypedDict, total=False):
        """How to run a module; see Services.start."""

        name: str
        args: Sequence[str]
        env: Mapping[str, str]
        input: Buffer | str
        timeout: float | str
        memory: int | str
        output: int | str
        log: int | str
        log_lines_max: int | str
        log_stdout: bool
        dirs: Sequence[Directory]
        entry: str


_EXECUTIONS_MAX = 10_000  # in one answer
_LOG_LINES_DEFAULT, _LOG_LINES_MAX = 2048, 262_144
_WAIT_MAX = "365d"


class Services:
    """One node's services."""

    def __init__(self, manager: Manager, config: Config) -> None:
        self._manager, self._config = manager, config

    async def load(self, source: Source) -> Artifact:
        """A module made ready, to be run often. Raises InvalidArgument, ModuleInvalid,
        ModuleLimit."""
        if isinstance(source, Artifact):
            return source
        if isinstance(source, (str, os.PathLike)):
            path = os.fsdecode(source)
            wasm = await offload(lambda: self._read(path))
            self._check_module_size(len(wasm))
        else:
            wasm = bytes_of("a module not named by its path", source, self._check_module_size)
        return await self._manager.load(wasm)

    async def start(
        self,
        source: Source,
        *,
        name: str = "",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        input: Buffer | str = b"",
        timeout: float | str | None = None,
        memory: int | str | None = None,
        output: int | str | None = None,
        log: int | str | None = None,
        log_lines_max: int | str | None = None,
        log_stdout: bool = True,
        dirs: Sequence[Directory] = (),
        entry: str = "",
        inline: bool = False,
        waited: bool = False,
    ) -> Live:
        """Starts one execution of `source` (wasm bytes, a path, or what `load` gave).

        `name` is the task's (else the file's stem) and the guest's argv[0], before `args`; `env`
        is the guest's whole environment and `input` its stdin. `timeout` is in seconds or text
        ("250ms"); `memory`, `output` and `log` are limits in bytes or text ("16MiB"); what is not
        given comes from the configuration. `log_lines_max` lines are kept for who reads the log
        late, the newest (2048; up to 262144). With `log_stdout` each line of stdout is a log line
        too, with the stream `stdout`; see Progress. `dirs` are the directories that the guest may
        use, under the names that they have for guests. `entry` is the exported function, else
        `_start`. `input` and wasm bytes are copied.
        Raises InvalidArgument, ModuleInvalid, ModuleLimit, NodeBusy, NodeClosed.
        """
        limit = self._config.number
        task_name = task_name_of(name, source)
        environment = environment_of(env)
        invocation = Invocation(
            entry=entry_of(entry),
            args=arguments_of(task_name, args, environment),
            env=environment,
            stdin=bytes_of("the input", input, self._check_input_size),
            timeout_ns=limit("limits.timeout" if waited else "limits.async_timeout", timeout),
            memory_bytes_max=limit("limits.memory", memory),
            output_bytes_max=limit("limits.output", output),
            log_bytes_max=limit("limits.log", log),
            log_lines_max=_log_lines(log_lines_max),
            log_stdout=bool(log_stdout),
            dirs=tuple(dirs),
            descriptors_max=self._config.descriptors_max,
            inline=inline,
        )
        return self._manager.start(await self.load(source), task_name, invocation)

    async def run(
        self, source: Source, *, inline: bool = False, **options: Unpack[RunOptions]
    ) -> Execution:
        """Starts and waits; when the wait is given up, so is the guest."""
        live = await self.start(source, inline=inline, waited=True, **options)
        return await self._manager.hold(live)

    async def wait(self, live: Live, timeout: float | str | None = None) -> Execution:
        """The record once ended. TimeoutError after `timeout`, in seconds or text ("1s"); the
        guest goes on."""
        timeout_ns = None if timeout is None else _wait_ns("timeout", timeout)
        return await self._manager.wait(live, timeout_ns)

    def record(self, live: Live) -> Execution:
        """The record as it is now; waits for nothing."""
        return self._manager.look(live)

    async def execution(self, id: str) -> Execution:
        """Raises NotFound."""
        return self._manager.get(id)

    async def executions(
        self, *, status: str | None = None, limit: int = 100, before: str | None = None
    ) -> list[Execution]:
        """Records from the newest on; `before` is the id of the last one seen."""
        if status is not None and status not in STATUSES:
            raise InvalidArgument(f"no status {status!r}: expected one of {', '.join(STATUSES)}")
        if not 1 <= parse_count(limit) <= _EXECUTIONS_MAX:
            raise InvalidArgument(f"a limit of 1 to {_EXECUTIONS_MAX} is accepted, found {limit}")
        return self._manager.newest(status, limit, before)

    async def cancel(self, id: str, reason: str = "") -> Execution:
        """Ends the execution if it has not ended; the answer is the same when asked again."""
        return await self._manager.cancel(id, reason)

    async def stats(self) -> dict[str, dict[str, int]]:
        return self._manager.stats()

    async def close(self, grace: float | str = 0.0) -> None:
        """Takes no more work; waits up to `grace` for what runs, then ends it."""
        grace_s = _wait_ns("grace", grace) / 1e9
        await offload(lambda: self._manager.close(grace_s))

    def _read(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read(self._config.module_bytes_max + 1)
        except OSError as error:
            raise InvalidArgument(f"cannot read {path!r}: {error.strerror}") from error
        except ValueError as error:
            raise InvalidArgument(f"cannot read {path!r}: {error}") from error

    def _check_module_size(self, size: int) -> None:
        if size > self._config.module_bytes_max:
            raise InvalidArgument(_too_large("the module", "limits.module", self._config))

    def _check_input_size(self, size: int) -> None:
        if size > self._config.input_bytes_max:
            raise InvalidArgument(_too_large("the input", "limits.input", self._config))


def _too_large(what: str, key: str, config: Config) -> str:
    return f"{what} is longer than {key}, {config.text(key)}"


def _log_lines(count: int | str | None) -> int:
    found = _LOG_LINES_DEFAULT if count is None else parse_count(count)
    if not 1 <= found <= _LOG_LINES_MAX:
        raise InvalidArgument(f"log_lines_max: expected 1 to {_LOG_LINES_MAX}, found {count}")
    return found


def _wait_ns(what: str, value: float | str) -> int:
    """How long somebody waits, where 0 is a look."""
    try:
        found = parse_duration_ns(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from None
    if not 0 <= found <= parse_duration_ns(_WAIT_MAX):
        raise InvalidArgument(f"{what}: expected 0 to {_WAIT_MAX}, found {value}")
    return found

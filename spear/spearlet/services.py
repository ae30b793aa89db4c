"""What a node does for its callers: plain async methods, from plain values to records.

The rule: every door (the library, later gRPC and frames) calls these and only adapts. Here values
are checked and defaults filled in; the manager decides the rest.
"""

from __future__ import annotations

import os

from spear.config import parse_duration_ns
from spear.errors import InvalidArgument
from spear.runtime.invocation import Invocation
from spear.runtime.waiting import offload
from spear.spearlet.execution.artifact import Artifact
from spear.spearlet.execution.execution import STATUSES, Execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict, Unpack

    from spear.config import Config
    from spear.spearlet.execution.manager import Live, Manager

    Source = bytes | str | os.PathLike[str] | Artifact

    class RunOptions(TypedDict, total=False):
        """How to run a module; see Services.start."""

        name: str
        args: Sequence[str]
        env: Mapping[str, str]
        input: bytes | str
        timeout: float | str
        memory: int | str
        output: int | str
        log: int | str
        log_stdout: bool
        entry: str


_ARGUMENT_BYTES_MAX = 1 << 20  # args and env together
_EXECUTIONS_MAX = 10_000  # in one answer


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
            wasm = await offload(lambda: self._read(os.fspath(source)))
        else:
            wasm = bytes(source)
        if len(wasm) > self._config.module_bytes_max:
            raise InvalidArgument(_too_large("the module", "limits.module", self._config))
        return await self._manager.load(wasm)

    async def start(
        self,
        source: Source,
        *,
        name: str = "",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        input: bytes | str = b"",
        timeout: float | str | None = None,
        memory: int | str | None = None,
        output: int | str | None = None,
        log: int | str | None = None,
        log_stdout: bool = True,
        entry: str = "",
        inline: bool = False,
        waited: bool = False,
    ) -> Live:
        """Starts one execution of `source` (wasm bytes, a path, or what `load` gave).

        `name` is the task's (else the file's stem) and the guest's argv[0], before `args`; `env`
        is the guest's whole environment and `input` its stdin. `timeout` is in seconds or text
        ("250ms"); `memory`, `output` and `log` are limits in bytes or text ("16MiB"); what is not
        given comes from the configuration. With `log_stdout` each line of stdout is a log line
        too. `entry` is the exported function, else `_start`.
        Raises InvalidArgument, ModuleInvalid, ModuleLimit, NodeBusy, NodeClosed.
        """
        limit = self._config.number
        task_name = name or _stem(source)
        invocation = Invocation(
            entry=_entry(entry),
            args=_arguments((task_name, *args), env or {}),
            env=dict(env or {}),
            stdin=self._input(input),
            timeout_ns=limit("limits.timeout" if waited else "limits.async_timeout", timeout),
            memory_bytes_max=limit("limits.memory", memory),
            output_bytes_max=limit("limits.output", output),
            log_bytes_max=limit("limits.log", log),
            log_stdout=log_stdout,
            inline=inline,
        )
        return self._manager.start(await self.load(source), task_name, invocation)

    async def run(
        self, source: Source, *, inline: bool = False, **options: Unpack[RunOptions]
    ) -> Execution:
        """Starts and waits; when the wait is given up, so is the guest."""
        live = await self.start(source, inline=inline, waited=True, **options)
        return await self._manager.hold(live)

    async def wait(self, live: Live) -> Execution:
        return await self._manager.wait(live)

    async def execution(self, id: str) -> Execution:
        """Raises NotFound."""
        return self._manager.get(id)

    async def executions(
        self, *, status: str | None = None, limit: int = 100, before: str | None = None
    ) -> list[Execution]:
        """Records from the newest on; `before` is the id of the last one seen."""
        if status is not None and status not in STATUSES:
            raise InvalidArgument(f"no status {status!r}: expected one of {', '.join(STATUSES)}")
        if not 1 <= limit <= _EXECUTIONS_MAX:
            raise InvalidArgument(f"a limit of 1 to {_EXECUTIONS_MAX} is accepted, found {limit}")
        return self._manager.newest(status, limit, before)

    async def cancel(self, id: str, reason: str = "") -> Execution:
        """Ends the execution if it has not ended; the answer is the same when asked again."""
        return await self._manager.cancel(id, reason)

    async def stats(self) -> dict[str, dict[str, int]]:
        return self._manager.stats()

    async def close(self, grace: float | str = 0.0) -> None:
        """Takes no more work; waits up to `grace` for what runs, then ends it."""
        grace_s = parse_duration_ns(grace) / 1e9
        await offload(lambda: self._manager.close(grace_s))

    def _read(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read(self._config.module_bytes_max + 1)
        except OSError as error:
            raise InvalidArgument(f"cannot read {path!r}: {error.strerror}") from error
        except ValueError as error:
            raise InvalidArgument(f"cannot read {path!r}: {error}") from error

    def _input(self, value: bytes | str) -> bytes:
        data = value.encode() if isinstance(value, str) else bytes(value)
        if len(data) > self._config.input_bytes_max:
            raise InvalidArgument(_too_large("the input", "limits.input", self._config))
        return data


def _too_large(what: str, key: str, config: Config) -> str:
    return f"{what} is longer than {key}, {config.text(key)}"


def _stem(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.path.splitext(os.path.basename(os.fspath(source)))[0] or "main"
    return "main"


def _entry(name: str) -> str:
    return "_start" if name in ("", "__spear_default_entry__") else name


def _arguments(args: Sequence[str], env: Mapping[str, str]) -> Sequence[str]:
    """The args, once they and the environment can be passed as C strings."""
    for name in env:
        if not name or "=" in name:
            raise InvalidArgument(f"{name!r} cannot name an environment variable")
    size = sum(map(_size, (*args, *env, *env.values())))
    if size > _ARGUMENT_BYTES_MAX:
        raise InvalidArgument(f"args and env take {size} bytes, more than {_ARGUMENT_BYTES_MAX}")
    return args


def _size(text: object) -> int:
    if isinstance(text, str) and "\0" not in text:
        try:
            return len(text.encode()) + 1
        except UnicodeEncodeError:
            pass
    raise InvalidArgument(f"args and env are UTF-8 texts without a NUL, found {text!r:.80}")

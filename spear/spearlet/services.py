"""What a node does for its callers: plain async methods, from plain values to records.

The rule: every door (the library, later gRPC and frames) calls these and only adapts. Here values
are checked and defaults filled in; the manager decides the rest.
"""

from __future__ import annotations

import os

from spear.config import parse_count, parse_duration_ns
from spear.errors import InvalidArgument
from spear.runtime.waiting import offload
from spear.spearlet.arguments import bytes_of, task_name_of
from spear.spearlet.execution.artifact import Artifact
from spear.spearlet.execution.execution import STATUSES, Execution
from spear.spearlet.options import config_of, invocation_of, too_large

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Unpack

    from typing_extensions import Buffer

    from spear.config import Config
    from spear.runtime.interface import LogLine, Run
    from spear.spearlet.execution.live import Live
    from spear.spearlet.execution.manager import Manager
    from spear.spearlet.options import RunOptions

    Source = Buffer | str | os.PathLike[str] | Artifact


_EXECUTIONS_MAX = 10_000  # in one answer
_WAIT_MAX = "365d"


class Services:
    """One node's services. `shown` gives a guest's log lines as its callers may see them."""

    def __init__(
        self, manager: Manager, config: Config,
        shown: Callable[[Sequence[LogLine]], Sequence[LogLine]],
    ) -> None:  # fmt: skip
        self._manager, self._config, self._shown = manager, config, shown

    async def load(self, source: Source, *, metered: bool = False) -> Artifact:
        """A module made ready, to be run often; `metered` if it shall count fuel. Raises
        InvalidArgument, ModuleInvalid, ModuleLimit."""
        if isinstance(source, Artifact):
            return (
                source
                if source.program.metered or not metered
                else await self._manager.load(source.wasm, metered)
            )
        if isinstance(source, (str, os.PathLike)):
            path = os.fsdecode(source)
            wasm = await offload(lambda: self._read(path))
            self._check_module_size(len(wasm))
        else:
            wasm = bytes_of("a module not named by its path", source, self._check_module_size)
        return await self._manager.load(wasm, metered)

    async def start(
        self,
        source: Source,
        *,
        inline: bool = False,
        waited: bool = False,
        **options: Unpack[RunOptions],
    ) -> Live:
        """Starts one execution of `source` (wasm bytes, a path, or what `load` gave); see
        RunOptions. `waited`: its wall time is that of one somebody waits for.

        Raises InvalidArgument, ModuleInvalid, ModuleLimit, NodeBusy, NodeClosed.
        """
        task_name = task_name_of(options.get("name", ""), source)
        invocation = invocation_of(self._config, task_name, options, inline=inline, waited=waited)
        artifact = await self.load(source, metered=invocation.fuel is not None)
        config = config_of(options) if artifact.program.posted else {}
        return self._manager.start(artifact, task_name, invocation, config)

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

    def logs(self, run: Run) -> Sequence[LogLine]:
        """The lines since the last call, of those still kept."""
        lines = run.read_logs()
        return self._shown(lines) if lines else lines

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
            raise InvalidArgument(too_large("the module", "limits.module", self._config))


def _wait_ns(what: str, value: float | str) -> int:
    """How long somebody waits, where 0 is a look."""
    try:
        found = parse_duration_ns(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from None
    if not 0 <= found <= parse_duration_ns(_WAIT_MAX):
        raise InvalidArgument(f"{what}: expected 0 to {_WAIT_MAX}, found {value}")
    return found

"""`spear run --node ADDRESS`: the same run, by a node.

The rule: the screen and the exit codes are those of a run in this process; the log comes as it
grows, the output at the end. The guest is ended when this command is.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import msgspec

from spear.cli import exits
from spear.cli.arguments import UsageError, number
from spear.cli.running import inputs, outcome
from spear.cli.running.screen import JsonScreen, TextScreen
from spear.cli.visits import specs
from spear.cli.visits.dial import Where, dial_client
from spear.clock import Clock, Ids
from spear.errors import NotFound
from spear.records.execution import Execution, Invocation
from spear.records.task import Limits, TaskSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from spear.cli.arguments import Parsed
    from spear.cli.visits.dial import Dial
    from spear.config import Config
    from spear.records.node import Node

_HERE_ONLY = ("deterministic", "seed", "trace", "replay", "repeat", "parallel")
_FUEL_MAX = 1 << 62
_ACCEPTED_S = 0.01  # between looks whether the node knows the execution already
_Screen = TextScreen | JsonScreen


def main(parsed: Parsed, path: str, config: Config, dial: Dial = dial_client) -> int:
    """Raises UsageError, SpearError, OSError where stdout cannot be written."""
    for name in _HERE_ONLY:
        if name in parsed.values:
            raise UsageError(f"--{name} is for runs in this process: leave out --node")
    screen = JsonScreen() if parsed.last("output") == "json" else TextScreen()
    payload = inputs.node_payload(parsed.last("input"))
    spec = _spec(parsed, path, config)
    for warning in inputs.unread_entries(spec.config):
        screen.warn(warning)
    call = Invocation(
        args=tuple(parsed.rest), env=inputs.environment(parsed.values.get("env", [])),
        execution_id=Ids(Clock()).next(),
    )  # fmt: skip
    run = _Run(path, spec, call, payload, screen)
    where = Where(*map(parsed.last, ("node", "config", "ca", "token_file")))
    return asyncio.run(run.by(dial(where)))


def _spec(parsed: Parsed, path: str, config: Config) -> TaskSpec:
    """All but the artifact; what was not said is as the node is configured."""
    fuel = parsed.last("fuel")
    limits = Limits(
        timeout_ns=config.timeout_ns if "timeout" in parsed.values else 0,
        memory_bytes=config.memory_bytes_max if "memory" in parsed.values else 0,
        fuel=number("--fuel", fuel, 1, _FUEL_MAX) if fuel is not None else 0,
    )
    name = os.path.splitext(os.path.basename(path))[0]
    dirs = specs.directories(parsed.values.get("dir", []))
    entries = inputs.entries(parsed.values.get("set", []))
    return TaskSpec(name=name, artifact="", limits=limits, dirs=dirs, config=entries)


class _Run:
    """One run; `by` a node, once."""

    def __init__(
        self, path: str, spec: TaskSpec, call: Invocation, payload: bytes, screen: _Screen
    ) -> None:
        self._path, self._spec, self._call = path, spec, call
        self._payload, self._screen = payload, screen
        self._seen = 0  # of the log

    async def by(self, connection: AbstractAsyncContextManager[Node]) -> int:
        async with connection as node:
            artifact = await specs.upload(node, self._path)
            spec = msgspec.structs.replace(self._spec, artifact=artifact.digest)
            calling = asyncio.ensure_future(node.invoke(spec, self._payload, self._call))
            try:
                await self._follow(node, calling)
                return await self._end(node, await calling, None)
            except asyncio.CancelledError:  # of this command
                execution = await self._interrupt(node, calling)
                return await self._end(node, execution, exits.INTERRUPTED)
            finally:
                calling.cancel()
                await asyncio.wait([calling])

    async def _follow(self, node: Node, calling: asyncio.Future[Execution]) -> None:
        """Shows the log as it grows, until the call is over or has nothing more to log."""
        while not calling.done():
            following = asyncio.ensure_future(self._show_log(node, follow=True))
            await asyncio.wait((following, calling), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                try:
                    following.result()
                    break
                except NotFound:
                    await asyncio.wait([calling], timeout=_ACCEPTED_S)
            else:
                following.cancel()
                await asyncio.wait([following])
        await asyncio.wait([calling])

    async def _show_log(self, node: Node, *, follow: bool) -> None:
        async for batch in node.logs(self._call.execution_id, after_seq=self._seen, follow=follow):
            self._seen = batch[-1].seq if batch else self._seen
            self._screen.take(batch, b"")

    async def _interrupt(self, node: Node, calling: asyncio.Future[Execution]) -> Execution:
        calling.cancel()
        await asyncio.wait([calling])
        return await node.cancel(self._call.execution_id, "interrupted")

    async def _end(self, node: Node, execution: Execution, code: int | None) -> int:
        with suppress(NotFound):
            await self._show_log(node, follow=False)
        execution = await outcome.with_output(node, execution)
        self._screen.take((), execution.output)
        self._screen.close(execution, None, code)
        return exits.of_execution(execution) if code is None else code

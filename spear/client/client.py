"""`spear.Client`: a node elsewhere, with the methods of `records.node.Node`.

The rule: making one opens nothing; the connection is made with the first call and again when it was
lost. One event loop uses it: the one of that first call.
"""

from __future__ import annotations

from typing import Final

from spear import config as configuration
from spear.client import address as addresses
from spear.client.artifacts import ArtifactCalls
from spear.client.caller import Caller
from spear.client.executions import ExecutionCalls
from spear.client.line import Line
from spear.client.models import ModelCalls
from spear.client.node import NodeCalls
from spear.client.objects import ObjectCalls
from spear.client.tasks import TaskCalls
from spear.clock import Clock, Ids
from spear.config import Config
from spear.errors import InvalidArgument, Unreachable
from spear.protocol import sockets
from spear.units import parse_duration_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.client.sync import SyncClient

_TIMEOUT_MS_MAX: Final = (1 << 32) - 1


class Client(ArtifactCalls, TaskCalls, ExecutionCalls, ObjectCalls, ModelCalls, NodeCalls):
    """`address` is `unix:PATH` or `HOST:PORT` (gRPC); without one it is the socket of this
    machine's node, else its configured gRPC address. `token`: instead of the node's token file;
    `ca`: a file with who signs the node's certificate. `timeout` (seconds, or text as `5s`) is of
    each call but those that take their time (streams, `wait`, `backup`); it goes through to the
    guest.

        async with spear.Client() as node:
            execution = await node.invoke("greet", b"hello")
    """

    def __init__(
        self, address: str | None = None, *, token: str | None = None,
        timeout: float | str | None = None, ca: str | None = None, config: Config | None = None,
    ) -> None:  # fmt: skip
        """Raises InvalidArgument."""
        self._ids = Ids(Clock())
        self._asked = address, token, ca
        self._config = config
        if address is not None:
            sockets.parse(address)
        self._line = Line(self._dial, _milliseconds(timeout))

    @classmethod
    def sync(
        cls, address: str | None = None, *, token: str | None = None,
        timeout: float | str | None = None, ca: str | None = None, config: Config | None = None,
    ) -> SyncClient:  # fmt: skip
        """The same methods for callers without an event loop; streams are plain iterators."""
        from spear.client.sync import SyncClient

        return SyncClient(cls(address, token=token, timeout=timeout, ca=ca, config=config))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; what was invoked on it and runs is ended by the node."""
        await self._line.close()

    async def connect(self) -> None:
        """Connects now; without it the first call does. Raises Unreachable, Unauthenticated."""
        await self._line.connected()

    async def _dial(self) -> Caller:
        """The first of the places that answers."""
        config = self._config or configuration.load(refusals=[])
        missed = addresses.absent(self._asked[0], config)
        for target in addresses.targets(*self._asked, config):
            try:
                return await _connect(target)
            except Unreachable as error:
                missed.append(str(error))
        raise Unreachable("; ".join(missed))


async def _connect(target: addresses.Target) -> Caller:
    if target.address.path:
        from spear.client.frame_caller import FrameCaller

        return await FrameCaller.connect(str(target.address))
    from spear.client import grpc_caller

    return await grpc_caller.connect(target)


def _milliseconds(timeout: float | str | None) -> int:
    if timeout is None:
        return 0
    found = -(-parse_duration_ns(timeout) // 10**6)
    if not 0 < found <= _TIMEOUT_MS_MAX:
        raise InvalidArgument(f"timeout: expected more than 0 and up to 49d, found {timeout!r}")
    return found

"""The daemon: a node with its doors, from its start to its drained end.

The rule: this is the composition root. What cannot be served is refused before anything is opened,
since a node that is opened begins what waits for it; the socket answers before gRPC is imported, as
that import costs more than all before it; the first signal drains, the second ends at once, and a
terminal that closes drains.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

import uvloop

from spear.clock import Clock
from spear.config import Config, settle_grpc, split_address
from spear.errors import AlreadyExists, InvalidArgument, Unreachable
from spear.protocol import sockets
from spear.records.node import Node
from spear.security.access import Access, check_listener
from spear.security.tls import TlsFiles, read_tls
from spear.security.tokens import Token, open_token
from spear.spearlet.datadir import UMASK, open_data_dir
from spear.spearlet.readiness import Readiness
from spear.spearlet.systemlog import open_system_log
from spear.telemetry.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.protocol.serving import Turn
    from spear.spearlet.rpc.frame_door import FrameDoor
    from spear.spearlet.rpc.grpc_door import GrpcDoor
    from spear.spearlet.rpc.method import Method
    from spear.telemetry.jsonlog import Log

GRACE_NS = 10 * 10**9  # for what runs, when a signal asks to end
_ANSWER_S = 1.0  # for calls that are about to be answered, when all work has ended
CLEAN, CUT_SHORT = 0, 1


class Served(Protocol):
    """A node that is open, and that closes what it stands on."""

    @property
    def services(self) -> Node: ...
    @property
    def turn(self) -> Turn | None:
        """See FrameDoor."""

    async def close(self, grace_s: float = 0.0) -> None: ...


Opened = Callable[[Mapping[str, str]], None]  # told once of all doors and where they answer


class Start(NamedTuple):
    """What a daemon is started with, beside its configuration."""

    environ: Mapping[str, str]
    clock: Clock
    log: Log
    redactor: Redactor  # the log's: what it knows is shown nowhere
    ports_file: str = ""
    opened: Opened | None = None


Opener = Callable[[Config, Start], Awaitable[Served]]


def run(
    config: Config, clock: Clock, environ: Mapping[str, str], *, ports_file: str = "",
    opened: Opened | None = None, opener: Opener | None = None,
) -> int:  # fmt: skip
    """Serves until asked to end; CLEAN, or CUT_SHORT where a second signal ended what ran. Raises
    SpearError for what is refused at start. `opener` gives another node than that of `config`."""
    check_listener("grpc.addr", split_address(config.grpc_address)[0], tls=config.grpc_tls)
    if config.frames_address:
        check_listener("frames.addr", split_address(config.frames_address)[0], tls=False)
    tls = read_tls(config)
    os.umask(UMASK)
    data_dir = open_data_dir(config.data_dir)
    redactor = Redactor()
    try:
        log = open_system_log(config, clock, redactor)
        try:
            start = Start(environ, clock, log, redactor, ports_file, opened)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(Daemon(config, start, tls).serve(opener or _open_served))
        finally:
            log.close()
    finally:
        data_dir.close()


async def _open_served(config: Config, start: Start) -> Served:
    from spear.spearlet.node.serving import open_served

    return await open_served(
        config,
        clock=start.clock,
        log=start.log,
        redactor=start.redactor,
        environ=start.environ,
    )


class Daemon:
    """One daemon, in the loop that calls `serve`."""

    def __init__(self, config: Config, start: Start, tls: TlsFiles | None) -> None:
        self._config, self._start, self._tls = config, start, tls
        self._log = start.log
        token = Token(open_token(config.token_path, start.clock))
        opened = config.auth_loopback == "open"
        self._access = Access(uid=os.geteuid(), token=token, loopback_open=opened)
        notify_socket = start.environ.get("NOTIFY_SOCKET", "")
        self._readiness = Readiness(os.getpid(), start.ports_file, notify_socket)
        self._stopping, self._abandoned = asyncio.Event(), asyncio.Event()
        self._signals = 0
        self._draining: asyncio.Task[None] | None = None
        self._grpc: GrpcDoor | None = None

    async def serve(self, opener: Opener) -> int:
        loop = asyncio.get_running_loop()
        self._log.leave_by(loop.call_soon_threadsafe)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            # A terminal that closes sends several, so it is never the second one.
            loop.add_signal_handler(signal.SIGHUP, self._stopping.set)
        self._check_doors()
        served = await opener(self._config, self._start)
        try:
            return await self._serve(served.services, served.turn)
        finally:
            await served.close()

    def _check_doors(self) -> None:
        """Raises AlreadyExists, InvalidArgument for what could not be told or listened at."""
        config = self._config
        self._readiness.check()
        _listen("socket", f"unix:{config.socket_path}", _check_address)
        if config.frames_address:
            _listen("frames.addr", config.frames_address, _check_address)
        # gRPC itself does not say what is wrong.
        _listen("grpc.addr", config.grpc_address, _check_address)

    async def _serve(self, node: Node, turn: Turn | None) -> int:
        from spear.spearlet.rpc.frame_door import FrameDoor
        from spear.spearlet.rpc.table import method_table

        async def drain(grace_ns: int) -> None:
            await self._drain(node, grace_ns)

        table = method_table(
            object_bytes_max=self._config.one_object_bytes_max,
            drain=drain,
            addresses=self._readiness.addresses,
        )
        frames = FrameDoor(node, table, self._access, self._log.failure, turn=turn)
        try:
            self._open_frames(frames)
            await self._open_grpc(node, table, turn)
            self._readiness.all_opened()
            if self._start.opened:
                self._start.opened(self._readiness.addresses())
            await self._stopping.wait()
            self._readiness.stopping()
            return await self._end_work(node)
        finally:
            self._readiness.close()
            grace_s = 0.0 if self._abandoned.is_set() else _ANSWER_S
            await asyncio.gather(
                frames.close(grace_s), *([self._grpc.close(grace_s)] if self._grpc else [])
            )

    def _open_frames(self, frames: FrameDoor) -> None:
        config = self._config
        if config.auth_loopback == "open":
            self._readiness.note("auth.loopback is open: callers on loopback need no token")
        _listen("socket", f"unix:{config.socket_path}", frames.listen)
        self._readiness.opened("socket", config.socket_path)
        if config.frames_address:
            address = _listen("frames.addr", config.frames_address, frames.listen)
            self._readiness.opened("frames", address)

    async def _open_grpc(self, node: Node, table: Mapping[str, Method], turn: Turn | None) -> None:
        address = self._config.grpc_address
        make = await asyncio.get_running_loop().run_in_executor(None, _import_grpc_door)
        self._grpc = make(node, table, self._access, self._log.failure, turn)
        port = await self._grpc.open(address, self._tls)
        self._readiness.opened("grpc", f"{address.rpartition(':')[0]}:{port}")

    def _signalled(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:  # a drain that a client asked for is not the first
            self._log.warn("asked to end again: what runs is ended", signal=number)
            self._abandoned.set()
        self._stopping.set()

    async def _drain(self, node: Node, grace_ns: int) -> None:
        """Brings the work to its end, once, whoever asks and whether or not it stays."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain_once(node, grace_ns))
        await asyncio.shield(self._draining)

    async def _drain_once(self, node: Node, grace_ns: int) -> None:
        self._log.info("draining", grace_ms=grace_ns // 10**6)
        try:
            if self._grpc is not None:
                await self._grpc.tell_health(serving=False)
            await node.drain(grace_ns)
        finally:
            self._stopping.set()

    async def _end_work(self, node: Node) -> int:
        drained = asyncio.create_task(self._drain(node, GRACE_NS))
        abandoned = asyncio.create_task(self._abandoned.wait())
        await asyncio.wait((drained, abandoned), return_when=asyncio.FIRST_COMPLETED)
        ended = drained.done()
        for task in (drained, abandoned, *([self._draining] if self._draining else [])):
            task.cancel()
        results = await asyncio.gather(drained, abandoned, return_exceptions=True)
        if ended and isinstance(results[0], Exception):
            self._log.failure("draining failed", results[0])
            return CUT_SHORT
        return CLEAN if ended else CUT_SHORT


def _listen(key: str, address: str, listen: Callable[[str], str]) -> str:
    """The address that was bound. Raises AlreadyExists, InvalidArgument, naming the setting."""
    try:
        return listen(address)
    except InvalidArgument as error:
        raise InvalidArgument(f"{key}: {error}") from error
    except AlreadyExists as error:
        raise AlreadyExists(f"{key}: {error}") from error
    except Unreachable as error:
        if not isinstance(cause := error.__cause__, OSError) or cause.errno != errno.EADDRINUSE:
            raise InvalidArgument(f"{key}: {error}") from error
        other = "path" if key == "socket" else "address, with port 0 to any free one"
        advice = f"is a node running? Else set it to another {other}"
        raise AlreadyExists(f"{key}: {error}: {advice}") from error


def _check_address(address: str) -> str:
    """Listens there for a moment. Raises as `sockets.listen` does."""
    sock, found = sockets.listen(sockets.parse(address))
    sock.close()
    if found.path:
        os.unlink(found.path)
    return str(found)


def _import_grpc_door() -> type[GrpcDoor]:
    """In a thread, so that the socket's callers do not wait for it."""
    settle_grpc()
    from spear.spearlet.rpc.grpc_door import GrpcDoor

    return GrpcDoor

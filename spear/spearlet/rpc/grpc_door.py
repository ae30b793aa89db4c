"""The gRPC door: the methods of the table, health and reflection on one TCP port.

The rule: it only adapts. Who calls is judged before a request is read; what a handler raises
becomes the call's status with its details; a caller that goes away cancels the handler. Importing
this costs more than a whole start, so the daemon does so once its socket answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import grpc
import grpc.aio
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from spear.errors import InvalidArgument, SpearError
from spear.protocol.serving import Turn
from spear.protocol.status import plain_status, status_of
from spear.records.node import Node, PromptNode
from spear.security.access import LOOPBACK, REMOTE, Access, is_free, origin_of
from spear.security.tls import TlsFiles
from spear.spearlet.rpc.method import (
    CLIENT_STREAM,
    SERVER_STREAM,
    UNARY,
    Method,
    closing,
    parse,
)

DETAILS_KEY = "grpc-status-details-bin"
_AUTHORIZATION = "authorization"
_CALLS_MAX = 16_384  # at once, over all connections; more are answered RESOURCE_EXHAUSTED
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second server binds the same port, silently
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 4096),
    # A caller whose machine is gone is noticed, and callers may look at us as often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

Context = grpc.aio.ServicerContext[Any, Any]
Check = Callable[[Context], SpearError | None]
OnFault = Callable[[str, BaseException], None]


class GrpcDoor:
    """One server; `on_fault` hears of what a handler raised outside of the error tree."""

    def __init__(
        self, node: Node, table: Mapping[str, Method], access: Access, on_fault: OnFault,
        turn: Turn | None = None,
    ) -> None:  # fmt: skip
        """`turn`: of a PromptNode, as for the frame door."""
        services = sorted({path.split("/")[1] for path in table})
        self._health = health.aio.HealthServicer()
        self._services = ["", *services]
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_CALLS_MAX)
        adapter = _Adapter(node, on_fault, turn)
        self._server.add_generic_rpc_handlers([_Router(adapter, table, access, services)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def open(self, address: str, tls: TlsFiles | None = None) -> int:
        """Serves there and gives the port. Raises InvalidArgument where it cannot listen."""
        try:
            port = self._listen(address, tls)
        except RuntimeError as error:
            raise InvalidArgument(f"grpc.addr: cannot listen on {address}: {error}") from error
        await self.tell_health(serving=True)
        await self._server.start()
        return port

    def _listen(self, address: str, tls: TlsFiles | None) -> int:
        if tls is None:
            return self._server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials(
            [(tls.key, tls.certificates)],
            root_certificates=tls.client_ca or None,
            require_client_auth=bool(tls.client_ca),
        )
        return self._server.add_secure_port(address, credentials)

    async def tell_health(self, *, serving: bool) -> None:
        """What health answers from now on."""
        status = health_pb2.HealthCheckResponse
        for service in self._services:
            await self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def close(self, grace_s: float) -> None:
        """Takes no more calls; those that have not ended after the grace are cancelled."""
        await self._server.stop(grace_s)


class _Router(grpc.GenericRpcHandler):
    """Gives each call its handler, or the refusal. A token that is right opens all; without one, a
    call is refused, or, where loopback is open, judged by where it comes from."""

    def __init__(
        self, adapter: _Adapter, table: Mapping[str, Method], access: Access,
        services: Sequence[str],
    ) -> None:  # fmt: skip
        self._access = access
        self._trusted = {path: adapter.handler(method) for path, method in table.items()}
        self._judged = {
            path: adapter.handler(method, self._refusal_by_peer) for path, method in table.items()
        }
        named = [*services, _REFLECTION]
        path, trusted, judged = _reflection_handlers(named, self._refusal_by_peer)
        self._trusted[path], self._judged[path] = trusted, judged

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        path = str(details.method)
        refusal = self._access.header_refusal(REMOTE, _header(details.invocation_metadata))
        if refusal is None:
            return self._trusted.get(path)
        if is_free(path):
            return None  # the server has health itself
        if self._access.header_refusal(LOOPBACK, "") is None:
            return self._judged.get(path) or _refusing(self._refusal_by_peer)
        return _refusing(lambda _context: refusal)

    def _refusal_by_peer(self, context: Context) -> SpearError | None:
        return self._access.header_refusal(_origin(context.peer()), "")


def _header(metadata: Any) -> str:
    for key, value in metadata or ():
        if key == _AUTHORIZATION:
            return value if isinstance(value, str) else ""
    return ""


def _origin(peer: str) -> str:
    """Of gRPC's name for a peer, such as `ipv6:%5B::1%5D:50311`."""
    host = unquote(peer.partition(":")[2]).rpartition(":")[0]
    return origin_of(host.strip("[]"))


def _refusing(check: Check) -> grpc.RpcMethodHandler[Any, Any]:
    """Refuses before anything is read; what passes the check has asked for an unknown method."""

    async def refuse(_requests: object, context: Context) -> None:
        await _refuse(context, check(context))
        await _abort(context, plain_status("UNIMPLEMENTED", "no such method"))

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _refuse(context: Context, refusal: SpearError | None) -> None:
    if refusal is not None:
        await _abort(context, status_of(refusal))


async def _abort(context: Context, status: Status) -> NoReturn:
    await context.abort(
        _CODES[status.code],
        status.message,
        trailing_metadata=((DETAILS_KEY, status.SerializeToString()),),
    )


class _Adapter:
    """Makes a method of the table a handler of gRPC. Messages are read and written here, so that
    bytes that are no message get a status that says so."""

    def __init__(self, node: Node, on_fault: OnFault, turn: Turn | None) -> None:
        self._node, self._on_fault, self._turn = node, on_fault, turn

    def handler(
        self, method: Method, check: Check | None = None
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """With `check`, its refusal comes first."""
        if method.kind == UNARY:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, check, self._begins(method))
            )
        if method.kind == SERVER_STREAM:
            return grpc.unary_stream_rpc_method_handler(self._server_stream(method, check))
        assert method.kind == CLIENT_STREAM
        return grpc.stream_unary_rpc_method_handler(self._client_stream(method, check))

    def _unary(
        self, method: Method, check: Check | None, begin: Callable[[Any], Awaitable[Any]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def call(data: bytes, context: Context) -> bytes:
            if check is not None:
                await _refuse(context, check(context))
            try:
                return method.write(await begin(parse(method, data)))
            except Exception as error:
                await self._fail(context, error)

        return call

    def _begins(self, method: Method) -> Callable[[Any], Awaitable[Any]]:
        """From a request to its awaitable response, which may be there already."""
        turn, at_once = self._turn, method.at_once
        if turn is None or at_once is None:
            return partial(method.handler, self._node)
        node, loop = cast(PromptNode, self._node), asyncio.get_running_loop()

        def begin(request: Any) -> Awaitable[Any]:
            given = at_once(node, request)
            if not isinstance(given, list):
                return cast("Awaitable[Any]", given)
            response = loop.create_future()
            given.append(response)
            turn.settle()  # so that nobody waits for the loop's next turn
            return response

        return begin

    def _server_stream(
        self, method: Method, check: Check | None
    ) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
        handle, node = method.handler, self._node

        async def call(data: bytes, context: Context) -> AsyncIterator[bytes]:
            if check is not None:
                await _refuse(context, check(context))
            try:
                async with closing(handle(node, parse(method, data))) as responses:
                    async for response in responses:
                        yield method.write(response)
            except Exception as error:
                await self._fail(context, error)

        return call

    def _client_stream(
        self, method: Method, check: Check | None
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        handle, node = method.handler, self._node

        async def call(datas: AsyncIterator[bytes], context: Context) -> bytes:
            if check is not None:
                await _refuse(context, check(context))
            try:
                async with closing(parse(method, data) async for data in datas) as requests:
                    response = await handle(node, requests)
                return method.write(response)
            except Exception as error:
                await self._fail(context, error)

        return call

    async def _fail(self, context: Context, error: Exception) -> NoReturn:
        """What is not of the error tree is told to the log, not to the caller."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, SpearError):
            self._on_fault("a gRPC call failed", error)
        await _abort(context, status_of(error))


def _reflection_handlers(
    services: Sequence[str], check: Check
) -> tuple[str, grpc.RpcMethodHandler[Any, Any], grpc.RpcMethodHandler[Any, Any]]:
    """Reflection's path, and its handlers for callers known and to be judged."""
    answers = reflection.aio.ReflectionServicer(services).ServerReflectionInfo

    async def judged(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        await _refuse(context, check(context))
        async with closing(answers(requests, context)) as found:
            async for answer in found:
                yield answer

    trusted_handler, judged_handler = (
        grpc.stream_stream_rpc_method_handler(
            handle,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for handle in (answers, judged)
    )
    return f"/{_REFLECTION}/ServerReflectionInfo", trusted_handler, judged_handler

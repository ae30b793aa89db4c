"""The frame door: the methods of the table over the framed protocol, operations 128 and 129.

The rule: it only adapts. A connection is let in by its hello or not at all, so nothing answers
there without credentials; a unary call costs one task at most, a prompt one none, and its messages
are read and written once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import cast

from spear._core.servedcalls import Route
from spear.errors import SpearError, Unimplemented
from spear.protocol.message import Hello
from spear.protocol.served_call import ServedCall
from spear.protocol.server import FrameServer, Limits
from spear.protocol.serving import Caller, Turn
from spear.records.node import Node, PromptNode
from spear.security.access import UNIX, Access, origin_of
from spear.spearlet.rpc.method import CLIENT_STREAM, UNARY, Method, closing, parse

LIMITS = Limits()
OnFault = Callable[[str, BaseException], None]


class FrameDoor:
    """One server for all its listeners; `on_fault` hears of errors outside of the error tree."""

    def __init__(
        self,
        node: Node,
        table: Mapping[str, Method],
        access: Access,
        on_fault: OnFault,
        limits: Limits = LIMITS,
        turn: Turn | None = None,
    ) -> None:
        """`turn`: of a PromptNode, which does once what many requests that come together need."""
        self._node, self._table, self._access = node, table, access
        routes = {} if turn is None else _routes(cast(PromptNode, node), table)
        self._server = FrameServer(self, self._authorize, on_fault, limits, turn, routes)

    def listen(self, address: str) -> str:
        """Serves at `unix:PATH` or `HOST:PORT`; the address with the port that was bound."""
        return self._server.listen(address)

    async def close(self, grace_s: float) -> None:
        """Takes no more calls; those that have not ended after the grace are cancelled."""
        await self._server.close(grace_s)

    def _authorize(self, caller: Caller, hello: Hello) -> None:
        refusal: SpearError | None
        if caller.credentials is not None:
            refusal = self._access.refusal(UNIX, uid=caller.credentials.uid)
        else:
            origin = origin_of(caller.source.rpartition(":")[0])
            refusal = self._access.refusal(origin, token=hello.token or "")
        if refusal is not None:
            raise refusal

    # Of the server

    def call(
        self, path: str, payload: bytes, deadline_ms: int, call: ServedCall
    ) -> Awaitable[bytes]:
        method = self._table.get(path)
        if method is None or method.kind != UNARY:
            raise self._missing(path)
        return self._unary(method, payload)

    def stream(
        self, path: str, payload: bytes, deadline_ms: int, call: ServedCall
    ) -> Awaitable[None]:
        method = self._table.get(path)
        if method is None or method.kind == UNARY:
            raise self._missing(path)
        if method.kind == CLIENT_STREAM:
            return self._client_stream(method, payload, call)
        return self._server_stream(method, payload, call)

    def _missing(self, path: str) -> Unimplemented:
        """What was asked for is not there, or of the other kind."""
        method = self._table.get(path)
        if method is None:
            return Unimplemented(f"there is no method {path!r}")
        if method.kind == UNARY:
            return Unimplemented(f"{path} is no stream: call it with operation 128")
        return Unimplemented(f"{path} is a stream: open it with operation 129")

    async def _unary(self, method: Method, payload: bytes) -> bytes:
        return method.write(await method.handler(self._node, parse(method, payload)))

    async def _server_stream(self, method: Method, payload: bytes, call: ServedCall) -> None:
        async with closing(method.handler(self._node, parse(method, payload))) as responses:
            async for response in responses:
                await call.messages.send(method.write(response))

    async def _client_stream(self, method: Method, payload: bytes, call: ServedCall) -> None:
        """The first message came with the request; the answer is the stream's one message back."""

        async def requests() -> AsyncIterator[object]:
            yield parse(method, payload)
            async for data in call.messages:
                yield parse(method, data)

        async with closing(requests()) as given:
            response = await method.handler(self._node, given)
        await call.messages.send(method.write(response), last=True)


def _routes(node: PromptNode, table: Mapping[str, Method]) -> dict[str, Route]:
    """Of the prompt methods, by path."""
    return {path: _route(node, path, method) for path, method in table.items() if method.prompt}


def _route(node: PromptNode, path: str, method: Method) -> Route:
    reads, writes = method.plain or (None, None)
    handler, read = partial(method.at_once or method.handler, node), partial(parse, method)
    return Route(path, handler, read, method.write, reads, writes, method.plain_bytes_max)

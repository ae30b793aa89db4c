"""What tests of the doors share: a node behind an open door, and ways to call it."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
import grpc.aio
from door_node import DoorNode
from google.protobuf.message import Message

from spear.security.access import Access
from spear.security.tokens import Token
from spear.spearlet.rpc.grpc_door import GrpcDoor
from spear.spearlet.rpc.method import CLIENT_STREAM, SERVER_STREAM, Method
from spear.spearlet.rpc.table import method_table

TOKEN = "0123456789abcdef" * 4
SHOWN = (("authorization", f"Bearer {TOKEN}"),)
OBJECT_BYTES_MAX = 1 << 20
A = TypeVar("A", bound=Message)


def access(*, loopback_open: bool = False, uid: int = 0) -> Access:
    return Access(uid=uid, token=Token(TOKEN), loopback_open=loopback_open)


class Faults(list[tuple[str, BaseException]]):
    """What a door told of: errors that nobody expected."""

    def hear(self, what: str, error: BaseException) -> None:
        self.append((what, error))


def table_of(node: DoorNode) -> dict[str, Method]:
    return method_table(object_bytes_max=OBJECT_BYTES_MAX, drain=node.drain)


class GrpcNode:
    """A node behind a gRPC door on a port of the system's choice, and a channel to it."""

    def __init__(self, *, loopback_open: bool = False) -> None:
        self.node, self.faults = DoorNode(), Faults()
        self.table = table_of(self.node)
        rules = access(loopback_open=loopback_open)
        self.door = GrpcDoor(self.node, self.table, rules, self.faults.hear)
        self.port = 0
        self.channel: grpc.aio.Channel

    async def __aenter__(self) -> GrpcNode:
        self.port = await self.door.open("127.0.0.1:0")
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.door.close(0)

    def callable(self, path: str, response: type[A]) -> Any:
        """gRPC's own callable for a method of the table; what it is given are messages."""
        method = self.table[path]
        assert method.response is response
        kind = {CLIENT_STREAM: "stream_unary", SERVER_STREAM: "unary_stream"}
        return getattr(self.channel, kind.get(method.kind, "unary_unary"))(
            path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def call(self, path: str, request: Any, response: type[A], **options: Any) -> A:
        """One call that shows the token; a list of requests is a stream of them."""
        given = iter(request) if isinstance(request, list) else request
        found = await self.callable(path, response)(given, metadata=SHOWN, timeout=20, **options)
        assert isinstance(found, response)
        return found

    async def stream(self, path: str, request: Message, response: type[A]) -> list[A]:
        call = self.callable(path, response)(request, metadata=SHOWN, timeout=20)
        return [answer async for answer in call]

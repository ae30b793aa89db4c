"""A node behind its doors, and clients of it: the way from a caller to a node and back, whole.

The rule: the doors and the client are the real ones; the node is whatever a test wants there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from conftest import make_config
from fake_node import FakeNode

from spear.client.client import Client
from spear.config import Config
from spear.records.node import Node
from spear.security.access import Access
from spear.security.tokens import Token
from spear.spearlet.rpc.frame_door import FrameDoor
from spear.spearlet.rpc.grpc_door import GrpcDoor
from spear.spearlet.rpc.table import method_table

TOKEN = "0123456789abcdef" * 4


@asynccontextmanager
async def fake_node() -> AsyncIterator[FakeNode]:
    node = FakeNode()
    try:
        yield node
    finally:
        await node.close()


def config_of(folder: Path, grpc_port: int = 1) -> Config:
    """Of a node in `folder`; port 1 is where nobody listens."""
    return make_config(
        folder, storage__data_dir=str(folder / "data"), grpc__addr=f"127.0.0.1:{grpc_port}"
    )


def _fault(path: str, error: BaseException) -> None:
    raise AssertionError(f"{path} raised {error!r}") from error


@asynccontextmanager
async def frame_door(node: Node, folder: Path) -> AsyncIterator[FrameDoor]:
    """At the socket of `config_of(folder)`."""
    socket_path = config_of(folder).socket_path
    os.makedirs(os.path.dirname(socket_path), exist_ok=True)
    door = FrameDoor(node, _table(node), _access(), _fault)
    door.listen(f"unix:{socket_path}")
    try:
        yield door
    finally:
        await door.close(0)


@asynccontextmanager
async def grpc_door(node: Node) -> AsyncIterator[int]:
    """Gives its port."""
    door = GrpcDoor(node, _table(node), _access(), _fault)
    try:
        yield await door.open("127.0.0.1:0")
    finally:
        await door.close(0)


def _table(node: Node) -> dict[str, object]:
    return method_table(object_bytes_max=64 << 20, drain=node.drain)  # type: ignore[return-value]


def _access() -> Access:
    return Access(uid=os.geteuid(), token=Token(TOKEN), loopback_open=False)


@asynccontextmanager
async def client_by_frames(folder: Path) -> AsyncIterator[Client]:
    config = config_of(folder)
    async with fake_node() as node, frame_door(node, folder), Client(config=config) as client:
        yield client


@asynccontextmanager
async def client_by_grpc(folder: Path) -> AsyncIterator[Client]:
    async with fake_node() as node, grpc_door(node) as port:
        client = Client(f"127.0.0.1:{port}", token=TOKEN, config=config_of(folder))
        async with client:
            yield client

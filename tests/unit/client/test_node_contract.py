"""Every implementation of Node does what the interface says (tests/node_contract.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fake_node import FakeNode
from node_contract import *  # noqa: F403 (the tests)
from table_caller import TableCaller

from spear.client.caller import Caller
from spear.client.client import Client
from spear.records.node import Node


@asynccontextmanager
async def fake() -> AsyncIterator[FakeNode]:
    node = FakeNode()
    try:
        yield node
    finally:
        await node.close()


class TableClient(Client):
    """A client whose calls go straight to the table of methods."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    async def _dial(self) -> Caller:
        return TableCaller(self._node)


@asynccontextmanager
async def client_of_a_table() -> AsyncIterator[Client]:
    async with fake() as node, TableClient(node) as client:
        yield client


@pytest.fixture(params=[fake, client_of_a_table], ids=lambda make: make.__name__)
async def node(request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    async with request.param() as found:
        yield found

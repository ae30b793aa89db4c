"""Every implementation of Node does what the interface says (tests/node_contract.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from fake_node import FakeNode
from node_contract import *  # noqa: F403 (the tests)

from spear.records.node import Node

Make = Callable[[], AbstractAsyncContextManager[Node]]


@asynccontextmanager
async def fake() -> AsyncIterator[Node]:
    node = FakeNode()
    try:
        yield node
    finally:
        await node.close()


@pytest.fixture(params=[fake], ids=lambda make: make.__name__)
async def node(request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    async with request.param() as found:
        yield found

"""Every implementation of Node does what the interface says (tests/node_contract.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from doors import client_by_frames, client_by_grpc, fake_node
from node_contract import *  # noqa: F403 (the tests)

from spear.records.node import Node


@asynccontextmanager
async def fake(folder: Path) -> AsyncIterator[Node]:
    async with fake_node() as node:
        yield node


@pytest.fixture(params=[fake, client_by_frames, client_by_grpc], ids=lambda make: make.__name__)
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    async with request.param(tmp_path) as found:
        yield found

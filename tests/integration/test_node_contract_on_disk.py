"""The node itself, on its data directory, does what the interface says; and so does a client of it
(tests/node_contract.py)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from doors import config_of, frame_door
from node_contract import *  # noqa: F403 (the tests)

from spear.client.client import Client
from spear.clock import Clock
from spear.records.node import Node
from spear.spearlet.node.serving import open_served
from spear.spearlet.systemlog import open_system_log
from spear.telemetry.redact import Redactor

pytest.importorskip("spear._core.executor")


@asynccontextmanager
async def node_on_disk(folder: Path) -> AsyncIterator[Node]:
    config = config_of(folder)
    os.makedirs(config.data_dir)
    redactor = Redactor()
    log = open_system_log(config, Clock(), redactor)
    served = await open_served(config, clock=Clock(), log=log, redactor=redactor, environ={})
    try:
        yield served.services
    finally:
        await served.close()
        log.close()


@asynccontextmanager
async def client_of_it(folder: Path) -> AsyncIterator[Node]:
    async with node_on_disk(folder) as node, frame_door(node, folder):
        client = Client(config=config_of(folder))
        async with client:
            yield client


@pytest.fixture(params=[node_on_disk, client_of_it], ids=lambda make: make.__name__)
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    async with request.param(tmp_path) as found:
        yield found

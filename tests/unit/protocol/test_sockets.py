"""Who answers nowhere is told so in the system's words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from spear.client import grpc_caller
from spear.client.address import Target
from spear.errors import Unreachable
from spear.protocol import sockets


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens, nor will while it is used."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


async def test_a_refused_connection_is_told_without_what_asyncio_says_of_it(nobody: str):
    with pytest.raises(Unreachable) as told:
        await sockets.connect(sockets.parse(nobody))
    assert str(told.value) == f"no node answers at {nobody}: Connection refused"


async def test_grpc_says_the_same(nobody: str):
    with pytest.raises(Unreachable) as told:
        await grpc_caller.connect(Target(sockets.parse(nobody)))
    assert str(told.value) == f"no node answers at {nobody}: Connection refused"


async def test_a_missing_socket_is_told(tmp_path: Path):
    with pytest.raises(Unreachable, match=r"at unix:.*: No such file or directory$"):
        await sockets.connect(sockets.parse(f"unix:{tmp_path}/none"))

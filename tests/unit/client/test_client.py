"""The client over the real doors: where it finds a node, deadlines, cancellation, access."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from conftest import guest_path
from doors import (
    TOKEN,
    client_by_frames,
    client_by_grpc,
    config_of,
    fake_node,
    frame_door,
    grpc_door,
)
from fake_node import FakeNode

from spear.client.address import targets
from spear.client.client import Client
from spear.errors import DeadlineExceeded, InvalidArgument, Unauthenticated, Unreachable
from spear.records.execution import Invocation
from spear.records.task import TaskSpec

WAYS = [client_by_frames, client_by_grpc]


async def looping(client: Client) -> TaskSpec:
    artifact = await client.put_artifact(guest_path("loop/loop").read_bytes())
    return TaskSpec(name="loop", artifact=artifact.digest)


async def terminated(node: Client) -> str:
    """The status of the one execution, once it has ended."""
    async with asyncio.timeout(20):
        (execution,) = (await node.executions()).executions
        return (await node.wait(execution.id)).status


# Where


async def test_the_socket_is_taken_where_it_is_there(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with fake_node() as node, frame_door(node, tmp_path), Client(config=config) as client:
        assert (await client.info())["node_name"] == "fake"


async def test_else_grpc_is_tried_with_the_token_of_the_node_s_file(tmp_path: Path) -> None:
    async with fake_node() as node, grpc_door(node) as port:
        config = config_of(tmp_path, port)
        os.makedirs(config.data_dir)
        with open(config.token_path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(TOKEN)
        Path(config.socket_path).touch()  # of a daemon that died: nobody listens
        async with Client(config=config) as client:
            assert (await client.info())["node_name"] == "fake"


async def test_where_nobody_answers_both_places_are_named(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    os.makedirs(config.data_dir)
    Path(config.socket_path).touch()
    with pytest.raises(Unreachable) as caught:
        await Client(config=config).info()
    assert f"unix:{config.socket_path}" in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


async def test_a_socket_that_is_not_there_is_named_too(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with pytest.raises(Unreachable) as caught:
        await Client(config=config).info()
    assert f"unix:{config.socket_path}: there is no such socket" in str(caught.value)
    with pytest.raises(Unreachable) as caught:
        await Client("127.0.0.1:1", config=config).info()
    assert "socket" not in str(caught.value)


@pytest.mark.parametrize("address", ["somewhere", "unix:", "host:port", "host:99999999"])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(InvalidArgument, match="address"):
        Client(address)


@pytest.mark.parametrize("timeout", [0, -1, "soon", "100d"])
def test_a_timeout_that_is_none_is_refused_at_once(timeout: object) -> None:
    with pytest.raises(InvalidArgument):
        Client(timeout=timeout)  # type: ignore[arg-type]


async def test_without_the_token_grpc_is_refused(tmp_path: Path) -> None:
    async with fake_node() as node, grpc_door(node) as port:
        for token in (None, "wrong" * 10):
            client = Client(f"127.0.0.1:{port}", token=token, config=config_of(tmp_path))
            async with client:
                with pytest.raises(Unauthenticated, match="token"):
                    await client.info()


def test_a_token_goes_off_this_machine_only_by_tls(tmp_path: Path) -> None:
    config = config_of(tmp_path, 50052)
    (remote,) = targets("192.0.2.1:50052", TOKEN, None, config)
    assert (remote.tls, remote.token) == (True, TOKEN)
    (local,) = targets("127.0.0.1:50052", TOKEN, None, config)
    assert (local.tls, local.token) == (False, TOKEN)
    (signed,) = targets("127.0.0.1:50052", TOKEN, "ca.pem", config)
    assert (signed.tls, signed.ca_path) == (True, "ca.pem")
    (unix,) = targets("unix:/x", TOKEN, None, config)
    assert unix.token == ""


# Deadlines and cancellation


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_deadline_goes_through_to_the_guest(way: object, tmp_path: Path) -> None:
    async with way(tmp_path) as client:  # type: ignore[operator]
        spec = await looping(client)
        hasty = Client(*client._asked[:1], token=client._asked[1], timeout="100ms",
                       config=client._config)  # fmt: skip
        async with hasty:
            with pytest.raises(DeadlineExceeded):
                await hasty.invoke(spec)
        assert await terminated(client) == "terminated"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_timeout_of_the_caller_goes_through_to_the_guest(
    way: object, tmp_path: Path
) -> None:
    async with way(tmp_path) as client:  # type: ignore[operator]
        spec = await looping(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.invoke(spec), 0.05)
        assert await terminated(client) == "terminated"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_stream_that_is_left_is_given_up_at_the_node(way: object, tmp_path: Path) -> None:
    async with way(tmp_path) as client:  # type: ignore[operator]
        accepted = await client.submit(await looping(client))
        watching = client.watch(id=accepted.id)
        await anext(watching)
        await watching.aclose()
        await client.cancel(accepted.id)  # the connection is still of use


@pytest.mark.parametrize("door", ["frames", "grpc"])
async def test_the_node_hears_that_a_stream_was_left(door: str, tmp_path: Path) -> None:
    async with fake_node() as node, frame_door(node, tmp_path), grpc_door(node) as port:
        address = None if door == "frames" else f"127.0.0.1:{port}"
        async with Client(address, token=TOKEN, config=config_of(tmp_path)) as client:
            accepted = await client.submit(await looping(client))
            watching = client.watch(id=accepted.id)
            await anext(watching)
            assert len(node.runs._watchers) == 1
            await watching.aclose()
            async with asyncio.timeout(20):
                while node.runs._watchers:
                    await client.info()


async def test_what_the_node_cannot_reach_is_not_asked_again(tmp_path: Path) -> None:
    async with fake_node() as node, frame_door(node, tmp_path):
        asked = 0

        async def refuse() -> dict[str, str]:
            nonlocal asked
            asked += 1
            raise Unreachable("the node cannot reach its own disk")

        node.info = refuse  # type: ignore[method-assign]
        async with Client(config=config_of(tmp_path)) as client:
            with pytest.raises(Unreachable, match="own disk"):
                await client.info()
        assert asked == 1


async def test_a_node_that_comes_back_is_found_again(tmp_path: Path) -> None:
    async with fake_node() as node:
        client = Client(config=config_of(tmp_path))
        async with client:
            for _ in range(2):
                async with frame_door(node, tmp_path):
                    assert (await client.info())["node_name"] == "fake"


async def test_a_call_under_way_when_the_node_goes_is_unknown(tmp_path: Path) -> None:
    async with fake_node() as node, Client(config=config_of(tmp_path)) as client:
        async with frame_door(node, tmp_path):
            spec = await looping(client)
            id = "01890000-0000-7000-8000-000000000001"
            call = asyncio.ensure_future(client.invoke(spec, b"", Invocation(execution_id=id)))
            await _begun(node, id)
        with pytest.raises(Unreachable, match=f"execution {id}.*outcome is unknown"):
            await call


async def _begun(node: FakeNode, id: str) -> None:
    async for found in node.watch():
        if found.id == id:
            return

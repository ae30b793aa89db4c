"""The client without an event loop: the same methods, plain iterators, interrupts."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import guest_path
from doors import config_of, frame_door
from elsewhere import Elsewhere
from fake_node import FakeNode

from spear.client.client import Client
from spear.client.sync import SyncClient, _UnderWay
from spear.errors import NodeClosed, NotFound
from spear.records.node import Node
from spear.records.task import TaskSpec


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    """A fake node with its socket, on a loop of its own."""
    found = Elsewhere(FakeNode)
    door = frame_door(found.node, tmp_path)
    found.do(door.__aenter__())
    yield found
    found.do(door.__aexit__(None, None, None))
    found.close()


@pytest.fixture
def client(elsewhere: Elsewhere, tmp_path: Path) -> Iterator[SyncClient]:
    with Client.sync(config=config_of(tmp_path)) as found:
        yield found


def spec_of(client: SyncClient, guest: str) -> TaskSpec:
    artifact = client.put_artifact(guest_path(guest).read_bytes())
    return TaskSpec(name=guest.rpartition("/")[2], artifact=artifact.digest)


def test_every_method_of_a_node_is_there() -> None:
    wanted = {name for name, _ in inspect.getmembers(Node, inspect.isfunction) if name[0] != "_"}
    assert {name for name in wanted if not callable(getattr(SyncClient, name, None))} == set()
    assert {name for name in wanted if not callable(getattr(Client, name, None))} == set()


def test_calls_give_what_they_give_with_a_loop(client: SyncClient) -> None:
    client.register(spec_of(client, "hello"))
    execution = client.invoke("hello")
    assert execution.output == b"Hello, SPEAR!\n"
    assert client.wait(client.submit("hello").id).completed


def test_streams_are_plain_iterators(client: SyncClient) -> None:
    execution = client.invoke(spec_of(client, "hello"))
    lines = [line.message for batch in client.logs(execution.id) for line in batch]
    assert lines == ["hello from a guest", "the time is 0 ms"]
    data = guest_path("hello").read_bytes()
    assert b"".join(client.read_artifact(execution.artifact)) == data


def test_a_stream_can_be_left(client: SyncClient) -> None:
    accepted = client.submit(spec_of(client, "loop/loop"))
    for _ in client.logs(accepted.id, follow=True):
        break
    assert client.cancel(accepted.id).status == "terminated"


def test_errors_are_raised_where_the_call_is(client: SyncClient) -> None:
    with pytest.raises(NotFound, match="nobody"):
        client.task("nobody")
    with pytest.raises(NotFound):
        next(client.logs("01890000-0000-7000-8000-000000000000"))


def test_threads_share_a_client(client: SyncClient) -> None:
    client.register(spec_of(client, "hello"))
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.invoke("hello").output))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"Hello, SPEAR!\n"] * 8


def test_an_interrupt_cancels_the_call_and_ends_the_guest(
    client: SyncClient, elsewhere: Elsewhere
) -> None:
    def interrupt() -> None:
        async def running() -> None:
            async for found in elsewhere.node.watch():
                if found.status == "running":
                    os.kill(os.getpid(), signal.SIGINT)
                    return

        elsewhere.do(running())

    spec = spec_of(client, "loop/loop")
    thread = threading.Thread(target=interrupt)
    thread.start()
    while not elsewhere.node.runs._watchers:  # it watches from here on
        pass
    with pytest.raises(KeyboardInterrupt):
        client.invoke(spec)
    thread.join()
    (execution,) = client.executions().executions
    assert client.wait(execution.id).status == "terminated"


@pytest.mark.parametrize("begun", [True, False])
def test_a_call_that_is_given_up_ends_whether_it_has_begun_or_not(begun: bool) -> None:
    seen: list[str] = []

    async def call() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def run() -> None:
        under_way = _UnderWay(call())
        if begun:
            under_way.start()
            await asyncio.sleep(0)
        under_way.give_up()
        if not begun:
            under_way.start()
        for _ in range(4):
            await asyncio.sleep(0)
        assert under_way.ended.is_set()

    asyncio.run(run())
    assert seen == (["begun", "ended"] if begun else [])


def test_a_closed_client_says_so(client: SyncClient) -> None:
    client.close()
    client.close()
    with pytest.raises(NodeClosed):
        client.info()

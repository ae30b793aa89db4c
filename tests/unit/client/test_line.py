"""A client's line: what is done again after a lost connection, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import guest_path
from doors import fake_node
from fake_node import FakeNode
from table_caller import TableCaller

from spear.client.caller import Caller, Lost
from spear.client.client import Client
from spear.errors import InvalidArgument, NodeClosed, SpearError, Unreachable
from spear.records.execution import Invocation
from spear.records.task import TaskSpec


class TableClient(Client):
    """A client whose connections are the given ones, in turn, and then good ones."""

    def __init__(self, node: FakeNode, *connections: TableCaller) -> None:
        super().__init__()
        self._node, self._left = node, list(connections)
        self.callers: list[TableCaller] = []

    async def _dial(self) -> Caller:
        caller = self._left.pop(0) if self._left else TableCaller(self._node)
        self.callers.append(caller)
        return caller

    @property
    def made(self) -> list[str]:
        """The methods that were called, on all connections."""
        return [path.rpartition("/")[2] for caller in self.callers for path in caller.made]


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with fake_node() as found:
        yield found


def losing(node: FakeNode, **how: int) -> TableClient:
    """Its first connection breaks."""
    return TableClient(node, TableCaller(node, **(how or {"answers_lost": 1})))


async def registered(node: FakeNode, guest: str = "hello") -> TaskSpec:
    artifact = await node.put_artifact(guest_path(guest).read_bytes())
    spec = TaskSpec(name=guest.rpartition("/")[2], artifact=artifact.digest)
    await node.register(spec)
    return spec


async def test_nothing_is_connected_before_the_first_call(node: FakeNode) -> None:
    client = TableClient(node)
    assert client.callers == []
    await client.info()
    await client.info()
    assert len(client.callers) == 1
    await client.close()
    assert client.callers[0].gone


async def test_what_only_asks_is_asked_again(node: FakeNode) -> None:
    client = losing(node)
    assert (await client.info())["node_name"] == "fake"
    assert client.made == ["Info", "Info"]


async def test_it_is_asked_again_once(node: FakeNode) -> None:
    client = TableClient(node, *(TableCaller(node, answers_lost=1) for _ in range(2)))
    with pytest.raises(Unreachable):
        await client.info()
    assert client.made == ["Info", "Info"]


AGAIN: list[tuple[str, tuple[Any, ...]]] = [
    ("task", ("hello",)), ("tasks", ()), ("artifacts", ()), ("executions", ()), ("schedules", ()),
    ("set_task_status", ("hello", "inactive")), ("stats", ()), ("list_objects", ()),
    ("stat_object", ("shared/a",)), ("get_object", ("shared/a",)), ("pin_object", ("shared/a",)),
]  # fmt: skip
ONCE: list[tuple[str, tuple[Any, ...]]] = [
    ("put_object", ("shared/b", b"x")), ("delete_object", ("shared/a",)),
    ("add_object_ref", ("shared/a",)), ("transact", ({}, {"shared/c": b"x"})),
    ("unregister", ("hello",)), ("drain", ()),
]  # fmt: skip


@pytest.mark.parametrize(("method", "args"), AGAIN, ids=lambda value: str(value))
async def test_calls_that_may_be_made_twice_are(
    node: FakeNode, method: str, args: tuple[Any, ...]
) -> None:
    await registered(node)
    await node.put_object("shared/a", b"1")
    client = losing(node)
    await getattr(client, method)(*args)
    assert len(client.callers) == 2


async def test_a_large_object_is_asked_for_again(node: FakeNode) -> None:
    await node.put_object("shared/a", bytes(2 << 20))
    client = losing(node, streams_cut_after=0)
    assert len((await client.get_object("shared/a"))[1]) == 2 << 20
    assert client.made == ["Read", "Get", "Get"]


@pytest.mark.parametrize(("method", "args"), ONCE, ids=lambda value: str(value))
async def test_calls_that_count_are_made_once(
    node: FakeNode, method: str, args: tuple[Any, ...]
) -> None:
    await registered(node)
    await node.put_object("shared/a", b"1")
    client = losing(node)
    with pytest.raises(Lost):
        await getattr(client, method)(*args)
    assert len(client.made) == 1


@pytest.mark.parametrize("method", ["invoke", "submit"])
async def test_the_lost_answer_of_a_call_is_unknown_and_names_the_execution(
    node: FakeNode, method: str
) -> None:
    await registered(node)
    client = losing(node)
    with pytest.raises(Unreachable, match="its outcome is unknown") as caught:
        await getattr(client, method)("hello")
    (execution,) = (await client.executions()).executions
    assert execution.id in str(caught.value)
    assert (await client.wait(execution.id)).completed


async def test_under_an_idempotency_key_a_call_is_made_again(node: FakeNode) -> None:
    await registered(node)
    client = losing(node)
    found = await client.invoke("hello", b"", Invocation(idempotency_key="monday"))
    assert (client.made, found.completed) == (["Invoke", "Invoke"], True)
    assert len((await client.executions()).executions) == 1


async def test_bytes_are_sent_again_and_a_stream_of_them_is_not(node: FakeNode) -> None:
    data = guest_path("hello").read_bytes()

    async def once() -> AsyncIterator[bytes]:
        yield data

    assert (await losing(node).put_artifact(data)).size == len(data)
    with pytest.raises(Lost):
        await losing(node).put_artifact(once())


async def test_a_stream_is_begun_again_only_while_nothing_of_it_came(node: FakeNode) -> None:
    data = guest_path("hello").read_bytes()
    digest = (await node.put_artifact(data * 20, runtime="process")).digest
    whole = [part async for part in losing(node, streams_cut_after=0).read_artifact(digest)]
    assert b"".join(whole) == data * 20
    assert len(whole) > 2
    got = []
    with pytest.raises(Lost):
        async for part in losing(node, streams_cut_after=2).read_artifact(digest):
            got.append(part)  # noqa: PERF401 (it raises)
    assert got == whole[:2]


async def test_an_error_of_the_node_is_no_lost_connection(node: FakeNode) -> None:
    async def refuse() -> dict[str, str]:
        raise Unreachable("the node cannot reach its own disk")

    node.info = refuse  # type: ignore[method-assign]
    client = TableClient(node)
    with pytest.raises(Unreachable, match="own disk"):
        await client.info()
    assert client.made == ["Info"]


async def test_many_calls_at_once_share_a_connection_and_its_successor(node: FakeNode) -> None:
    client = losing(node)
    assert len(await asyncio.gather(*(client.info() for _ in range(20)))) == 20
    assert len(client.callers) == 2


async def test_calls_that_were_lost_together_share_the_next_connection(node: FakeNode) -> None:
    client = losing(node, answers_lost=20)
    assert len(await asyncio.gather(*(client.info() for _ in range(20)))) == 20
    assert [caller.gone for caller in client.callers] == [True, False]


class LateLoss(TableCaller):
    """Loses two answers, the second one when it is told to."""

    def __init__(self, node: FakeNode) -> None:
        super().__init__(node, answers_lost=2)
        self.late, self.asked = asyncio.Event(), asyncio.Event()

    async def call(self, path: str, request: bytes, deadline_ms: int) -> bytes:
        if path.endswith("Stats"):
            self.asked.set()
            await self.late.wait()
        return await super().call(path, request, deadline_ms)


async def test_a_loss_that_is_noticed_late_ends_no_other_connection(node: FakeNode) -> None:
    broken = LateLoss(node)
    client = TableClient(node, broken)
    late = asyncio.ensure_future(client.stats())
    await broken.asked.wait()
    await client.info()
    broken.late.set()
    await late
    assert [caller.gone for caller in client.callers] == [True, False]


async def test_a_closed_client_says_so(node: FakeNode) -> None:
    client = TableClient(node)
    await client.info()
    await client.close()
    await client.close()
    with pytest.raises(NodeClosed, match="client is closed"):
        await client.info()


class GarbageCaller(TableCaller):
    """Answers with bytes that are no message."""

    async def call(self, path: str, request: bytes, deadline_ms: int) -> bytes:
        await super().call(path, request, deadline_ms)
        return b"\xff\xff"


@pytest.mark.parametrize("method", ["stat_object", "get_object"])
async def test_an_answer_that_is_no_message_is_told_as_such(node: FakeNode, method: str) -> None:
    await node.put_object("shared/a", b"1")
    client = TableClient(node, GarbageCaller(node))
    with pytest.raises(SpearError, match=r"what the node sent is no spear\.v1\."):
        await getattr(client, method)("shared/a")


async def test_an_object_that_no_message_holds_is_refused_by_name(node: FakeNode) -> None:
    client = TableClient(node)
    with pytest.raises(InvalidArgument, match=r"ObjectHead\.key"):
        await client.put_object("\udc80", b"x")
    with pytest.raises(InvalidArgument, match=r"ObjectKey\.key"):
        await client.get_object("\udc80")
    assert client.made == []

"""The gRPC door before a node of its own process: what has ended already is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import grpc.aio
import pytest
from door_callers import SHOWN, Faults, GrpcNode, access
from door_node import DoorNode

from spear.errors import KvFull, NotFound
from spear.protocol.pb.spear.v1 import execution_pb2
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.execution import Execution, Invocation
from spear.records.task import TaskSpec
from spear.spearlet.rpc import invocation
from spear.spearlet.rpc.grpc_door import GrpcDoor

FROZEN = "/spearlet.InvocationService/Invoke"
OURS = "/spear.v1.ExecutionService/Invoke"


class PromptDoorNode(DoorNode):
    """What `quick` runs has ended at once, and is told with the turn; `waits` goes the long way."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[str] = []
        self.told: list[asyncio.Future[Execution]] = []
        self.output, self.error = b"quick", ""

    def invoke_at_once(
        self, task: str | TaskSpec, input: bytes, invocation: Invocation
    ) -> Awaitable[Execution] | list[asyncio.Future[Execution]]:
        self.turns.append(f"begun {task}")
        if task == "unknown":
            raise NotFound("no such task")
        return self.told if task in ("quick", "later") else self.invoke(task, input, invocation)

    def gather(self) -> None:
        raise AssertionError("one call is a turn of its own")

    def settle(self) -> None:
        self.turns.append("settled")
        asyncio.get_running_loop().call_soon(self.turns.append, "the next turn")
        if self.turns[-2] == "begun quick":
            self.tell()

    def tell(self) -> None:
        told, self.told = self.told, []
        for future in told:
            if self.error:
                future.set_exception(KvFull(self.error))
            elif not future.done():
                future.set_result(
                    Execution(id="e" * 8, status="completed", output=self.output, exit_code=0)
                )


@pytest.fixture
async def served() -> AsyncIterator[GrpcNode]:
    served = GrpcNode()
    await served.door.close(0)
    served.node = node = PromptDoorNode()
    served.faults = Faults()
    served.door = GrpcDoor(node, served.table, access(), served.faults.hear, node)
    async with served:
        yield served


def node_of(served: GrpcNode) -> PromptDoorNode:
    assert isinstance(served.node, PromptDoorNode)
    return served.node


async def invoke(served: GrpcNode, task: str = "quick") -> pb.InvokeResponse:
    return await served.call(FROZEN, pb.InvokeRequest(task_id=task), pb.InvokeResponse)


async def test_what_has_ended_is_settled_and_answered(served: GrpcNode) -> None:
    answer = await invoke(served)
    assert (answer.execution_id, answer.output.data) == ("e" * 8, b"quick")
    assert node_of(served).turns[:2] == ["begun quick", "settled"]


async def test_both_services_answer_so(served: GrpcNode) -> None:
    request = execution_pb2.InvokeRequest(task="quick")
    found = await served.call(OURS, request, execution_pb2.Execution)
    assert (found.status, found.output) == ("completed", b"quick")
    assert node_of(served).turns[:2] == ["begun quick", "settled"]


async def test_what_goes_on_is_waited_for(served: GrpcNode) -> None:
    answer = await invoke(served, "echo")
    assert answer.status == pb.EXECUTION_STATUS_COMPLETED
    assert node_of(served).turns == ["begun echo"]


async def test_an_end_that_is_told_later_is_waited_for(served: GrpcNode) -> None:
    call = asyncio.ensure_future(invoke(served, "later"))
    node = node_of(served)
    while not node.told:
        await asyncio.sleep(0)
    assert not call.done()
    node.tell()
    assert (await call).output.data == b"quick"


async def test_an_end_that_cannot_be_kept_is_a_status(served: GrpcNode) -> None:
    node_of(served).error = "no room"
    for path, request, kind in (
        (FROZEN, pb.InvokeRequest(task_id="quick"), pb.InvokeResponse),
        (OURS, execution_pb2.InvokeRequest(task="quick"), execution_pb2.Execution),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.call(path, request, kind)  # type: ignore[type-var]
        assert (raised.value.code(), raised.value.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED, "no room",
        )  # fmt: skip
    assert not served.faults


async def test_what_cannot_begin_is_a_status(served: GrpcNode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await invoke(served, "unknown")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert not served.faults


async def test_a_caller_that_goes_takes_nobody_s_end(served: GrpcNode) -> None:
    method = served.callable(FROZEN, pb.InvokeResponse)
    call = method(pb.InvokeRequest(task_id="later"), metadata=SHOWN, timeout=20)
    waiting = asyncio.ensure_future(call.code())
    node = node_of(served)
    while not node.told:
        await asyncio.sleep(0)
    call.cancel()
    while not node.told[0].done():
        await asyncio.sleep(0)
    node.tell()
    assert await waiting == grpc.StatusCode.CANCELLED
    assert (await invoke(served)).output.data == b"quick"
    assert not served.faults


async def test_an_output_that_is_too_large_for_an_answer_is_left_out(
    served: GrpcNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "ONE_MESSAGE_BYTES_MAX", 4)
    answer = await invoke(served)
    assert (answer.status, answer.output.data) == (pb.EXECUTION_STATUS_COMPLETED, b"")


async def test_an_async_call_is_submitted(served: GrpcNode) -> None:
    request = pb.InvokeRequest(task_id="echo", mode=pb.EXECUTION_MODE_ASYNC)
    answer = await served.call(FROZEN, request, pb.InvokeResponse)
    assert answer.execution_id
    assert node_of(served).turns == []

"""`spear.v1.ExecutionService`: runs tasks, follows their executions."""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence

import msgspec

from spear.errors import InvalidArgument
from spear.protocol.convert.execution import EXECUTION, INVOKE, Invoke
from spear.protocol.convert.log import LOG_LINE
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.protocol.pb.spear.v1.value_pb2 import Chunk
from spear.records.execution import NOTHING, Execution, LogLine
from spear.records.node import Node, PromptNode
from spear.records.task import TaskSpec
from spear.spearlet.rpc.chunks import CHUNK_BYTES, ONE_MESSAGE_BYTES_MAX, cut
from spear.spearlet.rpc.method import closing, recorded, server_stream, service, unary

_LIMIT = 100


def submit(node: Node, request: Invoke) -> Awaitable[Execution]:
    return node.submit(_what(request), request.input, request.invocation or NOTHING)


def invoke(node: Node, request: Invoke) -> Awaitable[Execution]:
    return node.invoke(_what(request), request.input, request.invocation or NOTHING)


def invoke_at_once(
    node: PromptNode, request: Invoke
) -> Awaitable[Execution] | list[Future[Execution]]:
    return node.invoke_at_once(_what(request), request.input, request.invocation or NOTHING)


def _answer(execution: Execution) -> Execution:
    """With its output, or, where that is too large for one message, without: ReadResult has it."""
    if len(execution.output) > ONE_MESSAGE_BYTES_MAX:
        return msgspec.structs.replace(execution, output=b"")
    return execution


def _write(execution: Execution) -> bytes:
    return EXECUTION.encode(_answer(execution))


def _what(request: Invoke) -> str | TaskSpec:
    found = request.spec if request.spec is not None else request.task
    if not found:
        raise InvalidArgument("nothing to run: expected the id or name of a task, or a spec")
    return found


async def get(node: Node, request: pb.GetExecutionRequest) -> pb.Execution:
    found = await node.execution(request.id, include_output=request.include_output)
    return EXECUTION.message(_answer(found))


async def list_(node: Node, request: pb.ListExecutionsRequest) -> pb.ListExecutionsResponse:
    page = await node.executions(
        task=request.task,
        status=request.status,
        invocation_id=request.invocation_id,
        root=request.root,
        limit=request.limit or _LIMIT,
        page_token=request.page_token,
    )
    return pb.ListExecutionsResponse(
        executions=EXECUTION.messages(page.executions), next_page_token=page.next_page_token
    )


async def wait(node: Node, request: pb.WaitExecutionRequest) -> pb.Execution:
    timeout_ns = request.timeout_ns if request.HasField("timeout_ns") else None
    execution = await node.wait(
        request.id, timeout_ns=timeout_ns, include_output=request.include_output
    )
    return EXECUTION.message(_answer(execution))


async def watch(node: Node, request: pb.WatchExecutionsRequest) -> AsyncIterator[pb.Execution]:
    async with closing(node.watch(id=request.id, task=request.task)) as found:
        async for execution in found:
            yield EXECUTION.message(execution)


async def cancel(node: Node, request: pb.CancelExecutionRequest) -> pb.Execution:
    return EXECUTION.message(await node.cancel(request.id, request.reason))


async def remove(node: Node, request: pb.RemoveExecutionRequest) -> pb.Execution:
    return EXECUTION.message(await node.remove(request.id))


async def read_result(node: Node, request: pb.ReadResultRequest) -> AsyncIterator[Chunk]:
    async with closing(node.read_result(request.id)) as found:
        async for data in found:
            for part in cut(data):
                yield Chunk(data=part)


async def logs(node: Node, request: pb.LogsRequest) -> AsyncIterator[pb.LogBatch]:
    async with closing(
        node.logs(request.id, after_seq=request.after_seq, follow=request.follow)
    ) as found:
        async for lines in found:
            for batch in _batches(lines):
                yield pb.LogBatch(lines=LOG_LINE.messages(batch))


def _batches(lines: Sequence[LogLine]) -> Iterator[list[LogLine]]:
    """The same lines in groups whose text is about CHUNK_BYTES at most, or that are one line."""
    batch: list[LogLine] = []
    room = CHUNK_BYTES
    for line in lines:
        if batch and len(line.message) > room:
            yield batch
            batch, room = [], CHUNK_BYTES
        batch.append(line)
        room -= len(line.message)
    if batch:
        yield batch


METHODS = service(
    "spear.v1.ExecutionService",
    {
        "Submit": recorded(INVOKE, EXECUTION, submit),
        # What is above the limit might be so for its output: `_write` looks.
        "Invoke": recorded(INVOKE, EXECUTION, invoke)._replace(
            write=_write, plain_bytes_max=ONE_MESSAGE_BYTES_MAX, at_once=invoke_at_once
        ),
        "Get": unary(pb.GetExecutionRequest, pb.Execution, get, prompt=True),
        "List": unary(pb.ListExecutionsRequest, pb.ListExecutionsResponse, list_),
        "Wait": unary(pb.WaitExecutionRequest, pb.Execution, wait),
        "Watch": server_stream(pb.WatchExecutionsRequest, pb.Execution, watch),
        "Cancel": unary(pb.CancelExecutionRequest, pb.Execution, cancel),
        "Remove": unary(pb.RemoveExecutionRequest, pb.Execution, remove),
        "ReadResult": server_stream(pb.ReadResultRequest, Chunk, read_result),
        "Logs": server_stream(pb.LogsRequest, pb.LogBatch, logs),
    },
)

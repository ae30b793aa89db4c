"""`spearlet.InvocationService`: runs a task for a caller of the frozen package.

The rule: SYNC answers when the execution has ended, however it ended; ASYNC at once. A failed
execution is an answer, not an error of the call.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable

import msgspec

from spear.errors import InvalidArgument
from spear.protocol.convert.frozen_call import ANSWER, ASKED, Asked, answer_of, invocation_of
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.execution import Execution
from spear.records.node import Node, PromptNode
from spear.spearlet.rpc.chunks import ONE_MESSAGE_BYTES_MAX
from spear.spearlet.rpc.method import UNARY, Method, closing, service


async def invoke(node: Node, request: Asked) -> Execution:
    if _wants_answer_at_end(request):
        data, invocation = request.data, invocation_of(request)
        return await with_output(node, await node.invoke(request.task_id, data, invocation))
    return await _submit(node, request)


def invoke_at_once(
    node: PromptNode, request: Asked
) -> Awaitable[Execution] | list[Future[Execution]]:
    """What ends within this process is told with its output."""
    if _wants_answer_at_end(request):
        return node.invoke_at_once(request.task_id, request.data, invocation_of(request))
    return _submit(node, request)


def _submit(node: Node, request: Asked) -> Awaitable[Execution]:
    return node.submit(request.task_id, request.data, invocation_of(request))


def _wants_answer_at_end(request: Asked) -> bool:
    """Raises InvalidArgument where it is no request to run something."""
    if not request.task_id:
        raise InvalidArgument("task_id is empty: expected the id or the name of a task")
    if not 0 <= request.mode <= pb.EXECUTION_MODE_ASYNC:
        raise InvalidArgument(f"mode {request.mode} is not known: expected 1 (sync) or 2 (async)")
    return request.mode != pb.EXECUTION_MODE_ASYNC


def _write(execution: Execution) -> bytes:
    return ANSWER.encode(answer_of(_answer(execution)))


def _answer(execution: Execution) -> Execution:
    """Without an output that is too large for an answer."""
    if len(execution.output) > ONE_MESSAGE_BYTES_MAX:
        return msgspec.structs.replace(execution, output=b"")
    return execution


async def with_output(node: Node, execution: Execution) -> Execution:
    """The record for a caller that knows of no other way to read the output: with all of it, or,
    where that is too large for an answer, with none."""
    if not execution.output_digest:
        return execution
    return msgspec.structs.replace(execution, output=await _whole_output(node, execution))


async def _whole_output(node: Node, execution: Execution) -> bytes:
    if not 0 < execution.output_bytes <= ONE_MESSAGE_BYTES_MAX:
        return b""
    if execution.output:
        return execution.output
    async with closing(node.read_result(execution.id)) as chunks:
        return b"".join([chunk async for chunk in chunks])


METHODS = service(
    "spearlet.InvocationService",
    {
        "Invoke": Method(
            UNARY, pb.InvokeRequest, pb.InvokeResponse, invoke, ASKED.decode, _write,
            prompt=True, at_once=invoke_at_once,
        )
    },
)  # fmt: skip

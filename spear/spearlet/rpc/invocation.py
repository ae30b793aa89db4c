"""`spearlet.InvocationService`: runs a task for a caller of the frozen package.

The rule: SYNC answers when the execution has ended, however it ended; ASYNC at once. A failed
execution is an answer, not an error of the call.
"""

from __future__ import annotations

import msgspec

from spear.errors import InvalidArgument
from spear.protocol.convert.frozen import invocation_of, invoke_response
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.execution import Execution
from spear.records.node import Node
from spear.spearlet.rpc.chunks import ONE_MESSAGE_BYTES_MAX
from spear.spearlet.rpc.method import closing, service, unary


async def invoke(node: Node, request: pb.InvokeRequest) -> pb.InvokeResponse:
    invocation = invocation_of(request)
    if not request.task_id:
        raise InvalidArgument("task_id is empty: expected the id or the name of a task")
    if request.mode == pb.EXECUTION_MODE_ASYNC:
        return invoke_response(await node.submit(request.task_id, request.input.data, invocation))
    if request.mode > pb.EXECUTION_MODE_ASYNC:
        raise InvalidArgument(f"mode {request.mode} is not known: expected 1 (sync) or 2 (async)")
    execution = await node.invoke(request.task_id, request.input.data, invocation)
    return invoke_response(await with_output(node, execution))


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
    {"Invoke": unary(pb.InvokeRequest, pb.InvokeResponse, invoke, prompt=True)},
)

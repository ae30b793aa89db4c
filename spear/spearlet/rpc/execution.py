"""`spearlet.ExecutionService`: looks after executions for callers of the frozen package."""

from __future__ import annotations

from spear.errors import InvalidArgument
from spear.protocol.convert.frozen import STATUS, execution_message
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.execution import TERMINATED
from spear.records.node import Node
from spear.spearlet.rpc.invocation import with_output
from spear.spearlet.rpc.method import service, unary

_LIMIT = 100


async def get(node: Node, request: pb.GetExecutionRequest) -> pb.Execution:
    _check_id(request.execution_id)
    wanted = request.include_output
    execution = await node.execution(request.execution_id, include_output=wanted)
    return execution_message(await with_output(node, execution) if wanted else execution)


async def terminate(
    node: Node, request: pb.TerminateExecutionRequest
) -> pb.TerminateExecutionResponse:
    """`success` says whether it is terminated, also when it was already; another end stays."""
    _check_id(request.execution_id)
    execution = await node.cancel(request.execution_id, request.reason)
    terminated = execution.status == TERMINATED
    told = "" if terminated else f"execution {execution.id} had ended before: {execution.status}"
    return pb.TerminateExecutionResponse(
        success=terminated, final_status=STATUS[execution.status], message=told
    )


async def list_(node: Node, request: pb.ListExecutionsRequest) -> pb.ListExecutionsResponse:
    page = await node.executions(
        task=request.task_id,
        status=request.status,
        invocation_id=request.invocation_id,
        limit=request.limit or _LIMIT,
        page_token=request.page_token,
    )
    return pb.ListExecutionsResponse(
        executions=[execution_message(execution) for execution in page.executions],
        next_page_token=page.next_page_token,
    )


def _check_id(id: str) -> None:
    if not id:
        raise InvalidArgument("execution_id is empty")


METHODS = service(
    "spearlet.ExecutionService",
    {
        "GetExecution": unary(pb.GetExecutionRequest, pb.Execution, get),
        "TerminateExecution": unary(
            pb.TerminateExecutionRequest, pb.TerminateExecutionResponse, terminate
        ),
        "ListExecutions": unary(pb.ListExecutionsRequest, pb.ListExecutionsResponse, list_),
    },
)

"""`spear.v1.TaskService`: tasks, registered at the node itself."""

from __future__ import annotations

from spear.protocol.convert.task import TASK, TASK_SPEC
from spear.protocol.pb.spear.v1 import task_pb2 as pb
from spear.records.node import Node
from spear.spearlet.rpc.method import service, unary

_LIMIT = 100


async def register(node: Node, request: pb.RegisterTaskRequest) -> pb.Task:
    return TASK.message(await node.register(TASK_SPEC.record(request.spec)))


async def update(node: Node, request: pb.UpdateTaskRequest) -> pb.Task:
    spec = TASK_SPEC.record(request.spec)
    return TASK.message(await node.update(spec, if_version=request.if_version))


async def get(node: Node, request: pb.GetTaskRequest) -> pb.Task:
    return TASK.message(await node.task(request.task))


async def list_(node: Node, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
    found = await node.tasks(
        status=request.status, limit=request.limit or _LIMIT, after=request.after
    )
    return pb.ListTasksResponse(tasks=TASK.messages(found))


async def set_status(node: Node, request: pb.SetTaskStatusRequest) -> pb.Task:
    return TASK.message(await node.set_task_status(request.task, request.status))


async def unregister(node: Node, request: pb.UnregisterTaskRequest) -> pb.Task:
    return TASK.message(await node.unregister(request.task, request.reason))


METHODS = service(
    "spear.v1.TaskService",
    {
        "Register": unary(pb.RegisterTaskRequest, pb.Task, register),
        "Update": unary(pb.UpdateTaskRequest, pb.Task, update),
        "Get": unary(pb.GetTaskRequest, pb.Task, get),
        "List": unary(pb.ListTasksRequest, pb.ListTasksResponse, list_),
        "SetStatus": unary(pb.SetTaskStatusRequest, pb.Task, set_status),
        "Unregister": unary(pb.UnregisterTaskRequest, pb.Task, unregister),
    },
)

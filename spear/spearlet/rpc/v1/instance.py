"""`spear.v1.InstanceService`: the environments that run executions."""

from __future__ import annotations

from spear.protocol.convert.execution import INSTANCE
from spear.protocol.pb.spear.v1 import instance_pb2 as pb
from spear.records.node import Node
from spear.spearlet.rpc.method import service, unary


async def list_(node: Node, request: pb.ListInstancesRequest) -> pb.ListInstancesResponse:
    found = await node.instances(task=request.task)
    return pb.ListInstancesResponse(instances=INSTANCE.messages(found))


async def destroy(node: Node, request: pb.DestroyInstanceRequest) -> pb.Instance:
    return INSTANCE.message(await node.destroy_instance(request.id, request.reason))


METHODS = service(
    "spear.v1.InstanceService",
    {
        "List": unary(pb.ListInstancesRequest, pb.ListInstancesResponse, list_),
        "Destroy": unary(pb.DestroyInstanceRequest, pb.Instance, destroy),
    },
)

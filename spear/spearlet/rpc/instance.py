"""`spearlet.InstanceService`: ends instances for callers of the frozen package."""

from __future__ import annotations

from spear.errors import NotFound
from spear.protocol.pb.spearlet import instance_pb2 as pb
from spear.records.node import Node
from spear.spearlet.rpc.method import service, unary


async def destroy(node: Node, request: pb.DestroyInstanceRequest) -> pb.DestroyInstanceResponse:
    try:
        instance = await node.destroy_instance(request.instance_id, request.reason)
    except NotFound as error:
        return pb.DestroyInstanceResponse(success=False, message=str(error))
    return pb.DestroyInstanceResponse(success=True, message=instance.status)


METHODS = service(
    "spearlet.InstanceService",
    {"DestroyInstance": unary(pb.DestroyInstanceRequest, pb.DestroyInstanceResponse, destroy)},
)

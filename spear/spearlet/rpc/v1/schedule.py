"""`spear.v1.ScheduleService`: tasks that the node invokes by itself."""

from __future__ import annotations

from spear.protocol.convert.schedule import SCHEDULE, SCHEDULE_SPEC
from spear.protocol.pb.spear.v1 import schedule_pb2 as pb
from spear.records.node import Node
from spear.spearlet.rpc.method import service, unary


async def add(node: Node, request: pb.AddScheduleRequest) -> pb.Schedule:
    return SCHEDULE.message(await node.add_schedule(SCHEDULE_SPEC.record(request.spec)))


async def get(node: Node, request: pb.GetScheduleRequest) -> pb.Schedule:
    return SCHEDULE.message(await node.schedule(request.id))


async def list_(node: Node, _request: pb.ListSchedulesRequest) -> pb.ListSchedulesResponse:
    return pb.ListSchedulesResponse(schedules=SCHEDULE.messages(await node.schedules()))


async def remove(node: Node, request: pb.RemoveScheduleRequest) -> pb.Schedule:
    return SCHEDULE.message(await node.remove_schedule(request.id))


METHODS = service(
    "spear.v1.ScheduleService",
    {
        "Add": unary(pb.AddScheduleRequest, pb.Schedule, add),
        "Get": unary(pb.GetScheduleRequest, pb.Schedule, get),
        "List": unary(pb.ListSchedulesRequest, pb.ListSchedulesResponse, list_),
        "Remove": unary(pb.RemoveScheduleRequest, pb.Schedule, remove),
    },
)

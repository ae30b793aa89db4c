"""Instances, schedules and the node itself, over a line."""

from __future__ import annotations

from typing import Final

from spear.client.line import Line
from spear.protocol.convert.execution import INSTANCE
from spear.protocol.convert.schedule import SCHEDULE, SCHEDULE_SPEC
from spear.protocol.pb.spear.v1 import instance_pb2, node_pb2, schedule_pb2
from spear.records.execution import Instance
from spear.records.schedule import Schedule, ScheduleSpec

_INSTANCES: Final = "/spear.v1.InstanceService"
_SCHEDULES: Final = "/spear.v1.ScheduleService"
_NODE: Final = "/spear.v1.NodeService"


class NodeCalls:
    _line: Line

    async def instances(self, *, task: str = "") -> list[Instance]:
        request = instance_pb2.ListInstancesRequest(task=task)
        answer = instance_pb2.ListInstancesResponse
        page = await self._line.ask(f"{_INSTANCES}/List", request, answer)
        return list(INSTANCE.records(page.instances))

    async def destroy_instance(self, id: str, reason: str = "") -> Instance:
        request = instance_pb2.DestroyInstanceRequest(id=id, reason=reason)
        path = f"{_INSTANCES}/Destroy"
        found = await self._line.ask(path, request, instance_pb2.Instance, again=False)
        return INSTANCE.record(found)

    async def add_schedule(self, spec: ScheduleSpec) -> Schedule:
        request = schedule_pb2.AddScheduleRequest(spec=SCHEDULE_SPEC.message(spec))
        path = f"{_SCHEDULES}/Add"
        found = await self._line.ask(path, request, schedule_pb2.Schedule, again=False)
        return SCHEDULE.record(found)

    async def schedule(self, id: str) -> Schedule:
        request = schedule_pb2.GetScheduleRequest(id=id)
        found = await self._line.ask(f"{_SCHEDULES}/Get", request, schedule_pb2.Schedule)
        return SCHEDULE.record(found)

    async def schedules(self) -> list[Schedule]:
        request, answer = schedule_pb2.ListSchedulesRequest(), schedule_pb2.ListSchedulesResponse
        page = await self._line.ask(f"{_SCHEDULES}/List", request, answer)
        return list(SCHEDULE.records(page.schedules))

    async def remove_schedule(self, id: str) -> Schedule:
        request = schedule_pb2.RemoveScheduleRequest(id=id)
        path = f"{_SCHEDULES}/Remove"
        found = await self._line.ask(path, request, schedule_pb2.Schedule, again=False)
        return SCHEDULE.record(found)

    async def info(self) -> dict[str, str]:
        request = node_pb2.NodeInfoRequest()
        return dict((await self._line.ask(f"{_NODE}/Info", request, node_pb2.NodeInfo)).values)

    async def stats(self) -> dict[str, dict[str, int]]:
        request = node_pb2.NodeStatsRequest()
        found = await self._line.ask(f"{_NODE}/Stats", request, node_pb2.NodeStats)
        return {name: dict(group.values) for name, group in found.groups.items()}

    async def collect_garbage(self) -> dict[str, int]:
        path, request = f"{_NODE}/CollectGarbage", node_pb2.CollectGarbageRequest()
        found = await self._line.ask(path, request, node_pb2.StatsGroup, deadline_ms=0)
        return dict(found.values)

    async def backup(self, folder: str) -> dict[str, int]:
        path, request = f"{_NODE}/Backup", node_pb2.BackupRequest(folder=folder)
        found = await self._line.ask(path, request, node_pb2.StatsGroup, again=False, deadline_ms=0)
        return dict(found.values)

    async def drain(self, grace_ns: int = 0) -> None:
        request = node_pb2.DrainRequest(grace_ns=grace_ns)
        answer = node_pb2.DrainResponse
        await self._line.ask(f"{_NODE}/Drain", request, answer, again=False, deadline_ms=0)

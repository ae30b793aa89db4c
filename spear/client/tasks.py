"""Tasks, over a line."""

from __future__ import annotations

from typing import Final

from spear.client.line import Line
from spear.protocol.convert.task import TASK, TASK_SPEC
from spear.protocol.pb.spear.v1 import task_pb2 as pb
from spear.records.task import Task, TaskSpec

_SERVICE: Final = "/spear.v1.TaskService"


class TaskCalls:
    _line: Line

    async def register(self, spec: TaskSpec) -> Task:
        request = pb.RegisterTaskRequest(spec=TASK_SPEC.message(spec))
        return TASK.record(await self._line.ask(f"{_SERVICE}/Register", request, pb.Task))

    async def update(self, spec: TaskSpec, *, if_version: int = 0) -> Task:
        request = pb.UpdateTaskRequest(spec=TASK_SPEC.message(spec), if_version=if_version)
        found = await self._line.ask(f"{_SERVICE}/Update", request, pb.Task, again=False)
        return TASK.record(found)

    async def task(self, task: str) -> Task:
        request = pb.GetTaskRequest(task=task)
        return TASK.record(await self._line.ask(f"{_SERVICE}/Get", request, pb.Task))

    async def tasks(self, *, status: str = "", limit: int = 100, after: str = "") -> list[Task]:
        request = pb.ListTasksRequest(status=status, limit=limit, after=after)
        page = await self._line.ask(f"{_SERVICE}/List", request, pb.ListTasksResponse)
        return list(TASK.records(page.tasks))

    async def set_task_status(self, task: str, status: str) -> Task:
        request = pb.SetTaskStatusRequest(task=task, status=status)
        return TASK.record(await self._line.ask(f"{_SERVICE}/SetStatus", request, pb.Task))

    async def unregister(self, task: str, reason: str = "") -> Task:
        request = pb.UnregisterTaskRequest(task=task, reason=reason)
        found = await self._line.ask(f"{_SERVICE}/Unregister", request, pb.Task, again=False)
        return TASK.record(found)

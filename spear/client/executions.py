"""Executions, over a line.

The rule: the client chooses the id of what it starts, so that it can be asked for where the answer
was lost; it is started again by itself only under an idempotency key.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from spear.client.caller import Lost
from spear.client.line import Line, unreadable
from spear.clock import Ids
from spear.errors import Unreachable
from spear.protocol.convert.execution import EXECUTION, INVOKE, Invoke
from spear.protocol.convert.log import LOG_LINE
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.protocol.pb.spear.v1.value_pb2 import Chunk
from spear.records.execution import Execution, ExecutionPage, Invocation, LogLine
from spear.records.task import TaskSpec

_SERVICE: Final = "/spear.v1.ExecutionService"
_INVOKE: Final = f"{_SERVICE}/Invoke"
_SUBMIT: Final = f"{_SERVICE}/Submit"
_AS_THE_TASK_SAYS: Final = Invocation()


class ExecutionCalls:
    _line: Line
    _ids: Ids

    def invoke(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = _AS_THE_TASK_SAYS
    ) -> Coroutine[Any, Any, Execution]:
        """Raises Unreachable, which names the execution, where the connection was lost while it
        was under way; its outcome is not known then. Cancelling the call ends the guest."""
        return self._start(_INVOKE, task, input, invocation)

    def submit(
        self, task: str | TaskSpec, input: bytes = b"", invocation: Invocation = _AS_THE_TASK_SAYS
    ) -> Coroutine[Any, Any, Execution]:
        """Raises as `invoke` does."""
        return self._start(_SUBMIT, task, input, invocation)

    async def _start(
        self, path: str, task: str | TaskSpec, input: bytes, invocation: Invocation
    ) -> Execution:
        if not invocation.execution_id:
            invocation = msgspec.structs.replace(invocation, execution_id=self._ids.next())
        request = Invoke(input=input, invocation=invocation)
        if isinstance(task, str):
            request.task = task
        else:
            request.spec = task
        data, again = INVOKE.encode(request), bool(invocation.idempotency_key)
        try:
            found = EXECUTION.decode(await self._line.call(path, data, again=again))
            if path is _INVOKE and found.output_digest:
                return await self._whole(found)
            return found
        except DecodeError as error:
            raise unreadable(pb.Execution, error) from error
        except Lost as error:
            raise Unreachable(
                f"the connection was lost while execution {invocation.execution_id} was under way, "
                f"so its outcome is unknown: ask for it by this id ({error})"
            ) from error

    async def execution(self, id: str, *, include_output: bool = False) -> Execution:
        request = pb.GetExecutionRequest(id=id, include_output=include_output)
        found = EXECUTION.record(await self._line.ask(f"{_SERVICE}/Get", request, pb.Execution))
        return await self._whole(found) if include_output else found

    async def _whole(self, execution: Execution) -> Execution:
        """With its output, which the answer leaves out where it is too large for one message."""
        if execution.output_digest and not execution.output:
            output = b"".join([chunk async for chunk in self.read_result(execution.id)])
            return msgspec.structs.replace(execution, output=output)
        return execution

    async def executions(
        self, *, task: str = "", status: str = "", invocation_id: str = "", root: str = "",
        limit: int = 100, page_token: str = "",
    ) -> ExecutionPage:  # fmt: skip
        request = pb.ListExecutionsRequest(
            task=task, status=status, invocation_id=invocation_id, root=root, limit=limit,
            page_token=page_token,
        )  # fmt: skip
        page = await self._line.ask(f"{_SERVICE}/List", request, pb.ListExecutionsResponse)
        return ExecutionPage(EXECUTION.records(page.executions), page.next_page_token)

    async def wait(
        self, id: str, *, timeout_ns: int | None = None, include_output: bool = True
    ) -> Execution:
        request = pb.WaitExecutionRequest(
            id=id, timeout_ns=timeout_ns, include_output=include_output
        )
        path = f"{_SERVICE}/Wait"
        answer = await self._line.ask(path, request, pb.Execution, deadline_ms=0)
        found = EXECUTION.record(answer)
        return await self._whole(found) if include_output else found

    async def watch(self, *, id: str = "", task: str = "") -> AsyncGenerator[Execution, None]:
        request = pb.WatchExecutionsRequest(id=id, task=task)
        async for found in self._line.receive(f"{_SERVICE}/Watch", request, pb.Execution):
            yield EXECUTION.record(found)

    async def cancel(self, id: str, reason: str = "") -> Execution:
        request = pb.CancelExecutionRequest(id=id, reason=reason)
        return EXECUTION.record(await self._line.ask(f"{_SERVICE}/Cancel", request, pb.Execution))

    async def remove(self, id: str) -> Execution:
        request = pb.RemoveExecutionRequest(id=id)
        found = await self._line.ask(f"{_SERVICE}/Remove", request, pb.Execution, again=False)
        return EXECUTION.record(found)

    async def read_result(self, id: str) -> AsyncGenerator[bytes, None]:
        request = pb.ReadResultRequest(id=id)
        async for chunk in self._line.receive(f"{_SERVICE}/ReadResult", request, Chunk):
            yield chunk.data

    async def logs(
        self, id: str, *, after_seq: int = 0, follow: bool = False
    ) -> AsyncGenerator[list[LogLine], None]:
        request = pb.LogsRequest(id=id, after_seq=after_seq, follow=follow)
        async for batch in self._line.receive(f"{_SERVICE}/Logs", request, pb.LogBatch):
            yield list(LOG_LINE.records(batch.lines))

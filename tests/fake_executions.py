"""Executions of the fake node: played guests, on the loop of the test.

The rule: the states, logs and errors that a real node gives; nothing outlives the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from fake_guests import Call, End, guest_of

from spear.clock import Clock, Ids
from spear.errors import AlreadyExists, DeadlineExceeded, InUse, NotFound
from spear.records.execution import (
    Execution,
    ExecutionError,
    ExecutionPage,
    Invocation,
    LogLine,
)  # fmt: skip
from spear.records.task import Task, TaskSpec

INLINE_BYTES_MAX = 64 << 10
_CAUSES = {"EXIT": "exit", "TRAP": "trap"}


class Run:
    """One execution, its log and its whole output."""

    def __init__(self, record: Execution) -> None:
        self.record = record
        self.lines: list[LogLine] = []
        self.output = b""
        self.playing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def change(self, **fields: object) -> None:
        for name, value in fields.items():
            setattr(self.record, name, value)
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def change_to_come(self) -> None:
        await self._changed.wait()

    def shown(self, *, include_output: bool) -> Execution:
        found = msgspec.structs.replace(self.record)
        if include_output and len(self.output) <= INLINE_BYTES_MAX:
            found.output = self.output
        return found


class FakeExecutions:
    """All executions by id, in the order of their making."""

    def __init__(self, clock: Clock, node_name: str) -> None:
        self._clock, self._node_name = clock, node_name
        self.ids = Ids(clock)
        self._runs: dict[str, Run] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._watchers: list[asyncio.Queue[Execution]] = []

    def start(
        self, spec: TaskSpec, task: Task | None, input: bytes, call: Invocation, mode: str
    ) -> Run:
        key = (spec.name, call.idempotency_key)
        if call.idempotency_key and key in self._keys:
            return self._runs[self._keys[key]]
        id = call.execution_id or self.ids.next()
        if id in self._runs:
            raise AlreadyExists(f"execution {id} is there already")
        run = Run(
            Execution(
                id=id, task_id=task.id if task else "", task_name=spec.name,
                task_version=task.version if task else 0, artifact=spec.artifact,
                node_name=self._node_name, mode=mode, function=call.function,
                priority=call.priority or spec.priority, idempotency_key=call.idempotency_key,
                invocation_id=call.invocation_id, created_ns=self._clock.now_ns(),
                durability="power" if mode == "async" else "crash", input_bytes=len(input),
                timeout_ns=call.timeout_ns or spec.limits.timeout_ns or 60 * 10**9,
                metadata=call.metadata,
            )
        )  # fmt: skip
        self._runs[id] = run
        self._keys[key] = id
        self._tell(run)
        run.playing = asyncio.ensure_future(self._play(run, spec, input, call))
        return run

    async def _play(self, run: Run, spec: TaskSpec, input: bytes, call: Invocation) -> None:
        record = run.record
        try:
            run.change(status="running", started_ns=self._clock.now_ns())
            self._tell(run)
            given = Call(
                spec.args if call.args is None else call.args, {**spec.env, **call.env}, input,
                call.function, call.call_args, lambda level, said: self._log(run, level, said),
            )  # fmt: skip
            end = await asyncio.wait_for(guest_of(spec.artifact)(given), record.timeout_ns / 1e9)
        except TimeoutError:
            said = f"the guest was stopped at its deadline of {record.timeout_ns / 1e9:g} s"
            error = ExecutionError(code="DEADLINE", message=said)
            self._end(run, "timeout", "deadline", End(exit_code=-1, error=error))
        except asyncio.CancelledError as cancelled:
            reason = str(cancelled.args[0]) if cancelled.args else "cancelled"
            self._cancelled(run, reason)
        else:
            cause = _CAUSES[end.error.code] if end.error else "exit"
            self._end(run, "failed" if end.error else "completed", cause, end)

    def _end(self, run: Run, status: str, cause: str, end: End) -> None:
        run.output = end.output
        now_ns = self._clock.now_ns()
        large = len(end.output) > INLINE_BYTES_MAX
        run.change(
            status=status, cause=cause, finished_ns=now_ns, value=end.value, error=end.error,
            duration_ns=max(1, now_ns - run.record.started_ns), output_bytes=len(end.output),
            exit_code=None if cause not in _CAUSES.values() else end.exit_code,
            log_lines=len(run.lines), output_digest="0" * 64 if large else "",
        )  # fmt: skip
        self._tell(run)

    def _cancelled(self, run: Run, reason: str) -> None:
        error = ExecutionError(code="CANCELLED", message=reason)
        self._end(run, "terminated", "cancelled", End(exit_code=-1, error=error))

    def _log(self, run: Run, level: str, message: str) -> None:
        run.lines.append(LogLine(
            execution_id=run.record.id, seq=len(run.lines) + 1, level=level, message=message,
            time_ms=self._clock.now_ns() // 10**6, task=run.record.task_name,
        ))  # fmt: skip
        run.wake()

    def _tell(self, run: Run) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(msgspec.structs.replace(run.record))

    def find(self, id: str) -> Run:
        if id not in self._runs:
            raise NotFound(f"no execution {id}")
        return self._runs[id]

    async def ended(self, run: Run, timeout_ns: int | None = None) -> None:
        """Waiting is not part of the run: who stops waiting leaves it as it is."""
        try:
            async with asyncio.timeout(None if timeout_ns is None else timeout_ns / 1e9):
                while not run.record.ended:
                    await run.change_to_come()
        except TimeoutError:
            raise DeadlineExceeded(f"execution {run.record.id} still runs") from None

    async def cancel(self, run: Run, reason: str) -> None:
        if run.record.ended or run.playing is None:
            return
        run.playing.cancel(reason or "cancelled")
        await asyncio.wait([run.playing])
        if not run.record.ended:  # it had not begun
            self._cancelled(run, reason)

    def page(
        self, task: str, status: str, invocation_id: str, root: str, limit: int, page_token: str
    ) -> ExecutionPage:
        """The token is the id of the last one that was given."""
        found = [
            run.record
            for id, run in sorted(self._runs.items(), reverse=True)
            if (not page_token or id < page_token)
            and task in ("", run.record.task_name, run.record.task_id)
            and status in ("", run.record.status)
            and invocation_id in ("", run.record.invocation_id)
            and (not root or (run.record.depth and run.record.root_id == root))
        ]
        shown = tuple(msgspec.structs.replace(record) for record in found[:limit])
        return ExecutionPage(shown, shown[-1].id if len(found) > limit else "")

    def remove(self, run: Run) -> Execution:
        if not run.record.ended:
            raise InUse(f"execution {run.record.id} is {run.record.status}")
        del self._runs[run.record.id]
        return run.record

    async def logs(self, id: str, after_seq: int, follow: bool) -> AsyncIterator[list[LogLine]]:
        run = self.find(id)
        while True:
            if lines := run.lines[after_seq:]:
                after_seq = lines[-1].seq
                yield lines
            elif not follow or run.record.ended:
                return
            else:
                await run.change_to_come()

    async def watch(self, id: str, task: str) -> AsyncIterator[Execution]:
        news: asyncio.Queue[Execution] = asyncio.Queue()
        self._watchers.append(news)
        try:
            if id:
                news.put_nowait(self.find(id).shown(include_output=False))
            while True:
                found = await news.get()
                if id in ("", found.id) and task in ("", found.task_name, found.task_id):
                    yield found
                    if id and found.ended:
                        return
        finally:
            self._watchers.remove(news)

    async def close(self) -> None:
        playing = [run.playing for run in self._runs.values() if run.playing]
        for task in playing:
            task.cancel("the node is closed")
        await asyncio.gather(*playing, return_exceptions=True)

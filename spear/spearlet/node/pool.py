"""Warm instances: a reactor of a task whose pool is `shared` is made once and called often.

The rule: an instance runs one execution at a time. One that trapped, was ended or lived past its
idle time is closed, and no call waits for an idle one while the pool may still grow. Modules with
`_start`, and tasks whose isolation is `fresh`, get a new instance for each execution and never
come here.
"""

from __future__ import annotations

import asyncio

from spear.errors import NodeBusy, NotFound
from spear.records.execution import Instance as InstanceRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from spear.clock import Clock, Ids
    from spear.runtime.interface import Run, WarmInstance
    from spear.spearlet.node.plan import Plan

_MAX = 1000  # warm instances of a task that does not say


class Lease:
    """One warm instance, while an execution has it and between."""

    __slots__ = ("closing", "created_ns", "execution_id", "id", "runs", "used_ns", "warm")

    def __init__(self, id: str, warm: WarmInstance, now_ns: int) -> None:
        self.id, self.warm = id, warm
        self.created_ns = self.used_ns = now_ns
        self.execution_id, self.runs, self.closing = "", 0, False


class Pool:
    """The warm instances of one task's version, made on one of `threads`."""

    def __init__(
        self, task_id: str, task_name: str, plan: Plan, make: Callable[[], WarmInstance],
        threads: Executor, *, low: int, high: int, idle_ns: int, clock: Clock, ids: Ids,
    ) -> None:  # fmt: skip
        self.task_id, self.task_name, self.plan = task_id, task_name, plan
        self._make, self._threads, self._clock, self._ids = make, threads, clock, ids
        self.low, self.high, self.idle_ns = low, high or _MAX, idle_ns
        self._all: dict[str, Lease] = {}
        self._idle: list[Lease] = []  # the last one used is the next one used
        self._making = 0
        self.closed = False

    def idle(self, execution_id: str) -> Lease | None:
        """An idle instance, taken; None where there is none."""
        if not self._idle:
            return None
        lease = self._idle.pop()
        lease.execution_id = execution_id
        return lease

    async def grow(self, execution_id: str) -> Lease:
        """One more instance, taken. Raises NodeBusy at the pool's limit, GuestTrap where it
        cannot be initialized."""
        if len(self._all) + self._making >= self.high:
            raise NodeBusy(
                f"task {self.task_name!r} has its {self.high} warm instances at work: "
                "raise pool.max"
            )
        self._making += 1
        try:
            loop = asyncio.get_running_loop()
            warm = await loop.run_in_executor(self._threads, self._make)
        finally:
            self._making -= 1
        lease = Lease(self._ids.next(), warm, self._clock.now_ns())
        lease.execution_id = execution_id
        self._all[lease.id] = lease
        return lease

    async def fill(self) -> None:
        """Makes instances until `low` are there."""
        while not self.closed and len(self._all) < self.low:
            self.give_back(await self.grow(""))

    def give_back(self, lease: Lease, *, spent: bool = False) -> None:
        """Ends its use; a spent one is gone."""
        lease.execution_id, lease.used_ns = "", self._clock.now_ns()
        if spent or lease.closing or self.closed:
            self._close(lease)
        else:
            self._idle.append(lease)

    def destroy(self, id: str) -> Lease:
        """Closes it, once it is idle. Raises NotFound."""
        lease = self._all.get(id)
        if lease is None:
            raise NotFound(f"no warm instance {id!r}")
        lease.closing = True
        if lease in self._idle:
            self._idle.remove(lease)
            self._close(lease)
        return lease

    def trim(self) -> None:
        """Closes what was idle too long, down to `low`; the longest idle first."""
        until_ns = self._clock.now_ns() - self.idle_ns
        while len(self._all) > self.low and self._idle and self._idle[0].used_ns <= until_ns:
            self._close(self._idle.pop(0))

    def close(self) -> None:
        """Closes the idle ones now, the others as they come back."""
        self.closed = True
        while self._idle:
            self._close(self._idle.pop())

    def records(self, node_name: str) -> list[InstanceRecord]:
        return [
            InstanceRecord(
                id=lease.id,
                task_id=self.task_id,
                task_name=self.task_name,
                node_name=node_name,
                status=_status(lease),
                created_ns=lease.created_ns,
                used_ns=lease.used_ns,
                executions=lease.runs,
                execution_id=lease.execution_id,
            )
            for lease in self._all.values()
        ]

    def __len__(self) -> int:
        return len(self._all)

    def _close(self, lease: Lease) -> None:
        del self._all[lease.id]
        lease.warm.close()


def begin(
    lease: Lease, function: str, call_args: tuple[int | float, ...], input: bytes, timeout_ns: int,
    context: object = None,
) -> Run:  # fmt: skip
    """Starts a call of the instance. Raises InvalidArgument (no such function, wrong arguments)."""
    lease.runs += 1
    called = lease.warm.function(function)
    return called.start(*call_args, stdin=input, timeout_ns=timeout_ns, context=context)


def _status(lease: Lease) -> str:
    if lease.closing:
        return "terminating"
    return "running" if lease.execution_id else "ready"

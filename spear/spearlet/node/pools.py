"""The pools of warm instances, one for each version of a task that has one.

The rule: a pool is made when its task is first called (or filled, where it keeps instances ready)
and closed when the task has another version or is gone. Instances are made on threads of their own:
what a guest does meanwhile may wait for those that the node has for its files.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from spear.errors import NotFound
from spear.spearlet.node.pool import Lease, Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spear.clock import Clock, Ids
    from spear.records.execution import Instance
    from spear.runtime.interface import Program, Runtime
    from spear.spearlet.node.plan import Plan
    from spear.spearlet.node.programs import Programs
    from spear.spearlet.node.tasks import Registered
    from spear.spearlet.node.work import Work

_MAKERS_MAX = 8  # at once


class Pools:
    """Of one node, on its loop."""

    def __init__(
        self, runtime: Runtime, clock: Clock, ids: Ids, node_name: str, environ: Mapping[str, str]
    ) -> None:
        self._runtime, self._clock, self._ids = runtime, clock, ids
        self._node_name, self._environ = node_name, environ
        self._threads = ThreadPoolExecutor(_MAKERS_MAX, thread_name_prefix="spear-warm")
        self._pools: dict[str, Pool] = {}  # by task id, or its name where it has none
        self._leases: dict[str, Pool] = {}  # whose a lease that is out is

    async def lease(self, work: Work, program: Program) -> Lease:
        """An instance for this execution. Raises NodeBusy, GuestTrap (it cannot be initialized)."""
        execution = work.execution
        pool = self.of(execution.task_id, execution.task_name, work.plan, program)
        lease = pool.idle(execution.id) or await pool.grow(execution.id)
        self._leases[lease.id] = pool
        return lease

    def of(self, task_id: str, task_name: str, plan: Plan, program: Program) -> Pool:
        """The pool of this plan; one of an earlier version is closed."""
        key = task_id or task_name
        pool = self._pools.get(key)
        if pool is not None and pool.plan is plan:
            return pool
        if pool is not None:
            pool.close()
        self._runtime.serve(program)  # on this loop: instances are made on threads without one
        spec = plan.spec.pool
        run = plan.warm_of(self._environ)
        pool = self._pools[key] = Pool(
            task_id,
            task_name,
            plan,
            lambda: self._runtime.warm(program, run),
            threads=self._threads,
            low=spec.min,
            high=spec.max,
            idle_ns=spec.idle_ns,
            clock=self._clock,
            ids=self._ids,
        )
        return pool

    def give_back(self, lease: Lease, *, spent: bool) -> None:
        self._leases.pop(lease.id).give_back(lease, spent=spent)

    async def fill(self, registered: Iterable[Registered], programs: Programs) -> None:
        """Makes the instances that tasks want to have ready. Raises as `lease` does."""
        for one in registered:
            spec, task = one.plan.spec, one.task
            if spec.pool.isolation == "shared" and spec.pool.min and task.status != "inactive":
                program = await programs.load(spec.artifact, one.plan.metered)
                await self.of(task.id, task.name, one.plan, program).fill()

    def forget(self, task_id: str) -> None:
        """The task is gone."""
        pool = self._pools.pop(task_id, None)
        if pool is not None:
            pool.close()

    def trim(self) -> None:
        for pool in self._pools.values():
            pool.trim()

    def records(self) -> list[Instance]:
        return [record for pool in self._pools.values() for record in pool.records(self._node_name)]

    def destroy(self, id: str) -> Instance:
        """Closes an instance, one at work once it is done. Raises NotFound."""
        for pool in self._pools.values():
            for record in pool.records(self._node_name):
                if record.id == id:
                    pool.destroy(id)
                    return record
        raise NotFound(f"no warm instance {id!r} is on this node")

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._threads.shutdown(wait=False)

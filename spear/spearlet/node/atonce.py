"""Calls that are over at once: run and kept in one step, with no work for the stages between.

The rule: only where the stages would make no difference. The program is self-contained and has been
quick of late (spear/pace.py), there is room for it now, and nobody can name the execution yet: so
of its guest nothing is seen before its end is kept, one write keeps all of it, and where the node
dies before that nothing has happened. A guest that does not end well in its first slice, or that
logs, goes on as any execution that has begun.
"""

from __future__ import annotations

import asyncio
from functools import partial

from spear.records.execution import COMPLETED, RUNNING
from spear.spearlet.node.calls import execution_of
from spear.spearlet.node.outcomes import fill
from spear.spearlet.node.work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.records.execution import Execution, Invocation
    from spear.records.task import Task
    from spear.runtime.interface import Run
    from spear.spearlet.node.executions import Executions
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.plan import Plan


class AtOnce:
    """Of one node, on its loop. `told` hears of each end."""

    def __init__(
        self, parts: Parts, executions: Executions, told: Callable[[Execution], None]
    ) -> None:
        self._parts, self._executions, self._told = parts, executions, told
        self._loop = asyncio.get_running_loop()

    def call(
        self, task: Task | None, plan: Plan, invocation: Invocation, input: bytes
    ) -> asyncio.Future[Execution] | Work | None:
        """The record of a sync call that has ended, once it is kept; or the execution, which has
        begun; None where it is not of this kind. Raises InvalidArgument."""
        if not (plan.plain and plan.pace.quick and _is_nameless(invocation)):
            return None
        program = self._parts.programs.ready(plan.spec.artifact, plan.metered)
        if program is None or not program.self_contained:
            return None
        if not self._executions.has_room(task, plan, len(input)):
            return None
        execution = execution_of(self._parts, task, plan, invocation, input, "sync")
        try:
            run = self._parts.runtime.start(
                program,
                plan.run_of(
                    invocation,
                    input=input,
                    id=execution.id,
                    timeout_ns=execution.timeout_ns,
                    priority=execution.priority,
                    environ=self._parts.environ,
                ),
            )
        except Exception:  # it is tried once more, by who tells of it
            return None
        execution.status, execution.instance_id = RUNNING, execution.id
        if run.done and run.outcome.status == COMPLETED and not run.outcome.log_lines:
            return self._keep(execution, plan, run)
        work = Work(execution, invocation, plan, input)
        self._executions.take_begun(work, run)
        return work

    def _keep(self, execution: Execution, plan: Plan, run: Run) -> asyncio.Future[Execution]:
        outcome, output = run.outcome, run.output
        fill(execution, outcome, run)
        plan.pace.took(outcome.cpu_ns)
        execution.status, execution.cause = outcome.status, outcome.cause
        execution.output, execution.output_bytes = output, len(output)
        future: asyncio.Future[Execution] = self._loop.create_future()
        self._executions.keep_unseen(execution, partial(self._kept, execution, future))
        return future

    def _kept(self, execution: Execution, future: asyncio.Future[Execution]) -> None:
        self._told(execution)
        self._parts.events.changed(execution)
        if not future.done():  # its caller may be gone
            future.set_result(execution)


def _is_nameless(invocation: Invocation) -> bool:
    """Whether nobody outside knows of the execution before its end is told."""
    return not (invocation.idempotency_key or invocation.execution_id or invocation.webhook)

"""Calls that are over at once: run and kept in one step, with no work for the stages between.

The rule: only where the stages would make no difference. The program is self-contained and has been
quick of late (spear/pace.py), and there is room for it now: so of its guest nothing is seen before
its end is kept, one write keeps all of it, and where the node dies before that nothing has
happened. A guest that does not end well in its first slice, or that says much, goes on as any
execution that has begun.
"""

from __future__ import annotations

from spear.records.execution import COMPLETED, NOTHING, RUNNING
from spear.spearlet.node.calls import execution_of
from spear.spearlet.node.ends import INLINE_BYTES_MAX
from spear.spearlet.node.follower import LINES_A_LOOK
from spear.spearlet.node.plan import PRIORITIES
from spear.spearlet.node.work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spear.records.execution import Execution, Invocation
    from spear.records.task import Task
    from spear.spearlet.node.executions import Executions
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.plan import Plan


class AtOnce:
    """Of one node, on its loop. `lookup` finds what has an id already."""

    def __init__(
        self, parts: Parts, executions: Executions,
        lookup: Callable[[str], Work | Execution | None],
    ) -> None:  # fmt: skip
        self._parts, self._executions, self._lookup = parts, executions, lookup

    def call(
        self, task: Task | None, plan: Plan, invocation: Invocation, input: bytes
    ) -> Work | None:
        """The execution of a sync call, which has begun and as a rule has ended; None where it is
        not of this kind. Raises InvalidArgument."""
        if not (plan.plain and plan.pace.quick):
            return None
        if invocation is not NOTHING and not self._is_simple(invocation):
            return None
        program = self._parts.programs.ready(plan.spec.artifact, plan.metered)
        if program is None or not program.self_contained:
            return None
        if not self._executions.has_room(task, plan, len(input)):
            return None
        execution = execution_of(self._parts, task, plan, invocation, input, "sync")
        monotonic_ns = self._parts.clock.monotonic_ns
        began_ns = monotonic_ns()
        try:
            run = self._parts.runtime.begin(
                program,
                plan.model_of(invocation, self._parts.environ),
                input,
                execution.id,
                execution.timeout_ns,
                PRIORITIES[execution.priority],
                True,
            )
        except Exception:  # it is tried once more, by who tells of it
            return None
        execution.status, execution.instance_id = RUNNING, execution.id
        work = Work(execution, invocation, plan, input)
        # Its end is all that is to be kept of it?
        if run.completed and len(output := run.output) <= INLINE_BYTES_MAX:
            run.fill(execution)
            if execution.log_lines > LINES_A_LOOK:
                self._executions.take_begun(work, run)
                return work
            plan.pace.took(execution.cpu_ns)
            execution.status, execution.cause = COMPLETED, "exit"
            execution.output, execution.output_bytes = output, len(output)
            self._executions.take_ended(work, run)
        else:
            if not run.done:
                plan.pace.held_up(monotonic_ns() - began_ns)
            self._executions.take_begun(work, run)
        return work

    def _is_simple(self, invocation: Invocation) -> bool:
        """Whether nobody but its caller has to do with it, now and later. An id beyond all that are
        known is new: most are, as ids grow with time, so the store is not asked."""
        if invocation.idempotency_key or invocation.webhook:
            return False
        id = invocation.execution_id
        return not id or id > self._executions.newest_id or self._lookup(id) is None

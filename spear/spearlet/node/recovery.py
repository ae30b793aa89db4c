"""Takes up what an earlier process of the node left unended.

The rule: an execution found pending did not begin, one found running did, and nobody knows how far
it came. So the first goes on, or ends where its caller is gone, be that an agent; the second ends
as OUTCOME_UNKNOWN and is tried again only if its task says so.
"""

from __future__ import annotations

from spear.errors import SpearError
from spear.records.execution import FAILED, PENDING, TERMINATED, ExecutionError
from spear.records.task import TaskSpec
from spear.spearlet.node import rows
from spear.spearlet.node.outcomes import cancelled
from spear.spearlet.node.plan import Plan
from spear.spearlet.node.work import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.node.executions import Executions
    from spear.spearlet.node.parts import Parts
    from spear.spearlet.node.tasks import Tasks

_SLICE = 1000


def recover(parts: Parts, tasks: Tasks, executions: Executions) -> int:
    """How many were found; once, before the node takes work."""
    found = _left(parts)
    for row in found:
        execution = row.execution
        try:
            plan = _plan_of(parts, tasks, row)
        except SpearError as error:
            _end(parts, executions, row, str(error))
            continue
        parts.secrets.learn(plan.spec)  # it may be no registered task's, or not as that is now
        work = Work(execution, row.invocation, plan, row.input)
        work.input_digest, work.recovered = row.input_digest, True
        if execution.status != PENDING:
            executions.settle_unknown(work)
        elif work.powered and not work.bound:
            executions.readmit(work)
        else:
            gone = cancelled("its caller went with the node")  # and it did not begin
            executions.settle(work, TERMINATED, "cancelled", gone)
    return len(found)


def _left(parts: Parts) -> list[rows.LiveRow]:
    """In the order in which they were accepted."""
    found: list[rows.LiveRow] = []
    after = b""
    while page := parts.kv.scan(rows.LIVE, after=after, limit=_SLICE):
        found.extend(rows.decode_live(value) for _, value in page)
        after = page[-1][0]
    found.sort(key=lambda row: row.execution.created_ns)
    return found


def _plan_of(parts: Parts, tasks: Tasks, row: rows.LiveRow) -> Plan:
    """Raises NotFound where its task is gone, InvalidArgument where it cannot be run any more."""
    execution = row.execution
    if row.spec is not None:
        return Plan(row.spec, parts.config)
    if not execution.task_id:  # a sync one without a task: it is only ended
        return Plan(TaskSpec(name=execution.task_name, artifact=""), parts.config)
    known = tasks.find(execution.task_id)
    if known.task.version == execution.task_version:
        return known.plan
    spec = tasks.spec_of(execution.task_id, execution.task_version)
    return known.plan if spec is None else Plan(spec, parts.config)


def _end(parts: Parts, executions: Executions, row: rows.LiveRow, reason: str) -> None:
    """One that cannot even be lined up."""
    execution = row.execution
    plan = Plan(TaskSpec(name=execution.task_name or "main", artifact=""), parts.config)
    code = "INVALID_ARGUMENT" if execution.status == PENDING else "OUTCOME_UNKNOWN"
    work = Work(execution, row.invocation, plan, b"")
    work.input_digest = row.input_digest
    executions.settle(work, FAILED, "lost", ExecutionError(code=code, message=reason))

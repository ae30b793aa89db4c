"""What callers get of an execution that goes on: copies, since a live record changes.

The rule: pure.
"""

from __future__ import annotations

import msgspec

from spear.records.execution import Execution, Instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear.spearlet.node.work import Work


def bare(execution: Execution) -> Execution:
    """The record as it is now, without its output; a copy, since a live one changes."""
    return msgspec.structs.replace(execution, output=b"")


def now_of(work: Work) -> Execution:
    """The record of one that goes on, with what it has used by now."""
    if work.kin is not None:
        work.kin.count()
    return work.execution


def instance_of(work: Work) -> Instance:
    execution = work.execution
    return Instance(
        id=execution.instance_id,
        task_id=execution.task_id,
        task_name=execution.task_name,
        node_name=execution.node_name,
        status="running",
        created_ns=execution.started_ns or execution.created_ns,
        used_ns=execution.started_ns,
        executions=1,
        execution_id=execution.id,
    )

"""What callers get of an execution that goes on: copies, since a live record changes; its end.

The rule: nothing is decided here.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from spear.errors import DeadlineExceeded, InvalidArgument
from spear.records.execution import Execution, Instance

_LIMIT_MAX = 10_000
PAGE_BYTES_MAX = 2 << 20  # of records in one answer: a message of gRPC has 4 MiB
_ENCODE = msgspec.msgpack.Encoder().encode
_Record = TypeVar("_Record", bound=msgspec.Struct)

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


async def end_within(work: Work, timeout_ns: int | None) -> Execution:
    """Raises DeadlineExceeded; the execution goes on."""
    try:
        async with asyncio.timeout(None if timeout_ns is None else timeout_ns / 1e9):
            return await work.end()
    except TimeoutError:
        raise DeadlineExceeded(
            f"execution {work.execution.id} has not ended: it is {work.execution.status}"
        ) from None


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


def use_of(instances: list[Instance]) -> dict[str, int]:
    """How many of them run an execution."""
    active = sum(1 for instance in instances if instance.execution_id)
    return {"active": active, "idle": len(instances) - active}


def page_of(records: list[_Record], limit: int) -> list[_Record]:
    """The first of them, as many as are wanted and as one message holds; one at least."""
    taken = 0
    for at, record in enumerate(records[:limit]):
        taken += len(_ENCODE(record))
        if taken > PAGE_BYTES_MAX and at:
            return records[:at]
    return records[:limit]


def limit_of(limit: int) -> int:
    """Raises InvalidArgument."""
    if not 1 <= limit <= _LIMIT_MAX:
        raise InvalidArgument(f"a limit of 1 to {_LIMIT_MAX} is accepted, found {limit}")
    return limit

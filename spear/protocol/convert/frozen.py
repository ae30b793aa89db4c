"""Records as messages of package `spearlet`, whose shape is older than the records.

The rule: nothing is lost but what that package has no field for. Its Invoke is frozen_call.py.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.protocol.pb.spearlet import object_pb2
from spear.records.execution import Execution
from spear.records.objects import ObjectInfo

STATUS = {
    "pending": pb.EXECUTION_STATUS_PENDING,
    "running": pb.EXECUTION_STATUS_RUNNING,
    "completed": pb.EXECUTION_STATUS_COMPLETED,
    "failed": pb.EXECUTION_STATUS_FAILED,
    "terminated": pb.EXECUTION_STATUS_TERMINATED,
    "timeout": pb.EXECUTION_STATUS_TIMEOUT,
}


def execution_message(execution: Execution) -> pb.Execution:
    made = pb.Execution(
        invocation_id=execution.invocation_id,
        execution_id=execution.id,
        task_id=execution.task_id,
        function_name=execution.function,
        instance_id=execution.instance_id,
        status=STATUS[execution.status],
        durability=execution.durability,
        attempt=execution.attempt,
        cause=execution.cause,
        output_digest=execution.output_digest,
        output_bytes=execution.output_bytes,
        priority=execution.priority,
        idempotency_key=execution.idempotency_key,
        task_name=execution.task_name,
        task_version=execution.task_version,
        node_name=execution.node_name,
        session_id=execution.session_id,
        metadata=execution.metadata,
        parent_id=execution.parent_id,
        root_id=execution.root_id,
    )
    if execution.tree_usage is not None:
        made.model_calls = execution.tree_usage.calls
        made.model_prompt_tokens = execution.tree_usage.prompt_tokens
        made.model_completion_tokens = execution.tree_usage.completion_tokens
        made.model_cost_nano_usd = execution.tree_usage.cost_nano_usd
    _outcome(made, execution)
    if execution.created_ns:
        _set_time(made.created_at, execution.created_ns)
    return made


def _outcome(made: pb.Execution, execution: Execution) -> None:
    """What it says of the end."""
    if execution.output or execution.content_type:
        made.output.content_type = execution.content_type
        made.output.data = execution.output
    if execution.error is not None:
        made.error.code = execution.error.code
        made.error.message = execution.error.message
    if execution.exit_code is not None:
        made.exit_code = execution.exit_code
    if execution.started_ns:
        _set_time(made.started_at, execution.started_ns)
    if execution.finished_ns:
        _set_time(made.completed_at, execution.finished_ns)


def _set_time(made: Timestamp, ns: int) -> None:
    made.seconds, made.nanos = divmod(ns, 1_000_000_000)


def object_meta(info: ObjectInfo) -> object_pb2.ObjectMeta:
    return object_pb2.ObjectMeta(
        key=info.key,
        size=info.size,
        created_at=info.created_ms,
        updated_at=info.updated_ms,
        ref_count=info.ref_count,
        pinned=info.pinned,
        metadata=info.metadata,
        version=info.version,
        durability=info.durability,
    )


def object_message(info: ObjectInfo, value: bytes = b"") -> object_pb2.Object:
    """The object with its value; without it, `value` is empty."""
    return object_pb2.Object(
        key=info.key,
        value=value,
        size=info.size,
        created_at=info.created_ms,
        updated_at=info.updated_ms,
        ref_count=info.ref_count,
        pinned=info.pinned,
        metadata=info.metadata,
        version=info.version,
        durability=info.durability,
    )

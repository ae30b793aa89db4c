"""Records and the messages of package `spearlet`, whose shape is older than the records.

The rule: nothing is lost on the way in; on the way out only what that package has no field for.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from spear.errors import InvalidArgument
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.protocol.pb.spearlet import object_pb2
from spear.records.execution import Execution, Invocation
from spear.records.objects import ObjectInfo

STATUS = {
    "pending": pb.EXECUTION_STATUS_PENDING,
    "running": pb.EXECUTION_STATUS_RUNNING,
    "completed": pb.EXECUTION_STATUS_COMPLETED,
    "failed": pb.EXECUTION_STATUS_FAILED,
    "terminated": pb.EXECUTION_STATUS_TERMINATED,
    "timeout": pb.EXECUTION_STATUS_TIMEOUT,
}
TIMEOUT_MS_MAX = (1 << 63) // 1_000_000 - 1


def invocation_of(request: pb.InvokeRequest) -> Invocation:
    """All of a request but its task, input and mode. Raises InvalidArgument."""
    if request.timeout_ms > TIMEOUT_MS_MAX:
        raise InvalidArgument(
            f"timeout_ms is {request.timeout_ms}, accepted are 0 to {TIMEOUT_MS_MAX}"
        )
    fields: dict[str, object] = {}
    if request.headers or request.metadata:
        headers = {f"header.{name}": value for name, value in request.headers.items()}
        fields["metadata"] = headers | dict(request.metadata)
    if request.environment:
        fields["env"] = dict(request.environment)
    if request.args:
        fields["args"] = tuple(request.args)
    return Invocation(
        function=request.function_name,
        content_type=request.input.content_type,
        timeout_ns=request.timeout_ms * 1_000_000,
        priority=request.priority,
        idempotency_key=request.idempotency_key,
        invocation_id=request.invocation_id,
        execution_id=request.execution_id,
        session_id=request.session_id,
        parent_id=request.parent_id,
        fresh_instance=request.force_new_instance,
        webhook=request.webhook,
        **fields,  # type: ignore[arg-type]
    )


def invoke_response(execution: Execution) -> pb.InvokeResponse:
    """The answer to Invoke, with the output as far as the record has it."""
    made = pb.InvokeResponse(
        invocation_id=execution.invocation_id,
        execution_id=execution.id,
        instance_id=execution.instance_id,
        status=STATUS[execution.status],
        durability=execution.durability,
        attempt=execution.attempt,
        cause=execution.cause,
        output_digest=execution.output_digest,
        output_bytes=execution.output_bytes,
    )
    _outcome(made, execution)
    return made


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


def _outcome(made: pb.InvokeResponse | pb.Execution, execution: Execution) -> None:
    """What both messages say of the end."""
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

"""Executions, and what a call adds to its task, as messages.

The rule: the two that every call meets are read by hand, each field once: half the time, or less,
of what their Mirror takes, to which a test holds them.
"""

from __future__ import annotations

import msgspec

from spear.protocol.convert.mirror import (
    MAP,
    NUMBERS,
    TEXTS,
    Many,
    Mirror,
    One,
    Part,
    number_value,
)
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.protocol.pb.spear.v1 import instance_pb2
from spear.records.execution import Execution, ExecutionError, Frame, Instance, Invocation
from spear.records.usage import Usage

ERROR = Mirror(ExecutionError, pb.ExecutionError, {"backtrace": Many(Mirror(Frame, pb.Frame))})
USAGE = Mirror(Usage, pb.Usage)
INSTANCE = Mirror(Instance, instance_pb2.Instance)


class ExecutionMirror(Mirror[Execution, pb.Execution]):
    def __init__(self) -> None:
        parts: dict[str, Part] = {
            "value": NUMBERS, "error": One(ERROR), "metadata": MAP, "usage": One(USAGE),
            "tree_usage": One(USAGE),
        }  # fmt: skip
        super().__init__(Execution, pb.Execution, parts)

    def message(self, record: Execution) -> pb.Execution:
        if record.error is None and not record.value:
            try:
                return pb.Execution(**msgspec.to_builtins(record, builtin_types=(bytes,)))
            except (ValueError, TypeError, UnicodeError):
                pass  # the slow way says what does not fit
        return super().message(record)

    def record(self, message: pb.Execution) -> Execution:
        made = Execution(
            id=message.id,
            task_id=message.task_id,
            task_name=message.task_name,
            task_version=message.task_version,
            artifact=message.artifact,
            node_name=message.node_name,
            invocation_id=message.invocation_id,
            session_id=message.session_id,
            function=message.function,
            idempotency_key=message.idempotency_key,
            parent_id=message.parent_id,
            root_id=message.root_id,
            depth=message.depth,
            detached=message.detached,
            cause=message.cause,
            instance_id=message.instance_id,
            created_ns=message.created_ns,
            started_ns=message.started_ns,
            finished_ns=message.finished_ns,
            next_attempt_ns=message.next_attempt_ns,
            duration_ns=message.duration_ns,
            cpu_ns=message.cpu_ns,
            timeout_ns=message.timeout_ns,
            memory_bytes=message.memory_bytes,
            input_bytes=message.input_bytes,
            output_bytes=message.output_bytes,
            content_type=message.content_type,
            output=message.output,
            output_digest=message.output_digest,
            log_lines=message.log_lines,
            log_lost=message.log_lost,
            log_truncated=message.log_truncated,
        )
        self._read_optional(message, made)
        return made

    def _read_optional(self, message: pb.Execution, made: Execution) -> None:
        for name in self.optional:
            if message.HasField(name):
                setattr(made, name, getattr(message, name))
        if message.value:
            made.value = tuple([number_value(number) for number in message.value])
        if message.HasField("error"):
            made.error = ERROR.record(message.error)
        if message.metadata:
            made.metadata = dict(message.metadata)
        if message.HasField("usage"):
            made.usage = USAGE.record(message.usage)
        if message.HasField("tree_usage"):
            made.tree_usage = USAGE.record(message.tree_usage)


class InvocationMirror(Mirror[Invocation, pb.Invocation]):
    def __init__(self) -> None:
        parts: dict[str, Part] = {"call_args": NUMBERS, "args": TEXTS, "env": MAP, "metadata": MAP}
        super().__init__(Invocation, pb.Invocation, parts)

    def record(self, message: pb.Invocation) -> Invocation:
        return Invocation(
            function=message.function,
            call_args=tuple([number_value(number) for number in message.call_args]),
            args=tuple(message.args.values) if message.HasField("args") else None,
            env=dict(message.env) if message.env else {},
            content_type=message.content_type,
            timeout_ns=message.timeout_ns,
            priority=message.priority,
            idempotency_key=message.idempotency_key,
            invocation_id=message.invocation_id,
            execution_id=message.execution_id,
            session_id=message.session_id,
            parent_id=message.parent_id,
            fresh_instance=message.fresh_instance,
            metadata=dict(message.metadata) if message.metadata else {},
            webhook=message.webhook,
        )


EXECUTION, INVOCATION = ExecutionMirror(), InvocationMirror()

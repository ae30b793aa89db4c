"""The Invoke of package `spearlet`: its request and its answer as records, and what they say.

The rule: the records have the fields of the messages, so a plain call goes from bytes to bytes
without a message between (mirror.py). Nothing is lost on the way in.
"""

from __future__ import annotations

from operator import attrgetter

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from spear.errors import InvalidArgument
from spear.protocol.convert.frozen import STATUS
from spear.protocol.convert.mirror import MAP, STRINGS, Mirror, One
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.execution import NOTHING, Execution, Invocation

TIMEOUT_MS_MAX = (1 << 63) // 1_000_000 - 1


class Payload(msgspec.Struct):
    content_type: str = ""
    data: bytes = b""


class Failure(msgspec.Struct):
    code: str = ""
    message: str = ""


class Time(msgspec.Struct):
    seconds: int = 0
    nanos: int = 0


class Asked(msgspec.Struct, kw_only=True):
    """An InvokeRequest."""

    invocation_id: str = ""
    execution_id: str = ""
    task_id: str = ""
    function_name: str = ""
    input: Payload | None = None
    headers: dict[str, str] = {}
    environment: dict[str, str] = {}
    timeout_ms: int = 0
    session_id: str = ""
    mode: int = 0
    force_new_instance: bool = False
    metadata: dict[str, str] = {}
    args: tuple[str, ...] = ()
    idempotency_key: str = ""
    priority: str = ""
    parent_id: str = ""
    webhook: str = ""

    @property
    def data(self) -> bytes:
        return b"" if self.input is None else self.input.data


class Answer(msgspec.Struct, kw_only=True):
    """An InvokeResponse."""

    invocation_id: str = ""
    execution_id: str = ""
    instance_id: str = ""
    status: int = 0
    output: Payload | None = None
    error: Failure | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    durability: str = ""
    exit_code: int | None = None
    attempt: int = 0
    cause: str = ""
    output_digest: str = ""
    output_bytes: int = 0


_PAYLOAD, _TIME = One(Mirror(Payload, pb.Payload)), One(Mirror(Time, Timestamp))
ASKED = Mirror(
    Asked,
    pb.InvokeRequest,
    {"input": _PAYLOAD, "headers": MAP, "environment": MAP, "metadata": MAP, "args": STRINGS},
)
ANSWER = Mirror(
    Answer,
    pb.InvokeResponse,
    {
        "output": _PAYLOAD, "error": One(Mirror(Failure, pb.Error)), "started_at": _TIME,
        "completed_at": _TIME,
    },
)  # fmt: skip
_MORE = attrgetter(*(set(Asked.__struct_fields__) - {"task_id", "input", "mode"}))


def invocation_of(asked: Asked) -> Invocation:
    """All of a request but its task, input and mode. Raises InvalidArgument."""
    content_type = asked.input.content_type if asked.input else ""
    if not content_type and not any(_MORE(asked)):
        return NOTHING
    if asked.timeout_ms > TIMEOUT_MS_MAX:
        raise InvalidArgument(
            f"timeout_ms is {asked.timeout_ms}, accepted are 0 to {TIMEOUT_MS_MAX}"
        )
    headers = {f"header.{name}": value for name, value in asked.headers.items()}
    return Invocation(
        function=asked.function_name,
        args=asked.args or None,
        env=asked.environment,
        content_type=content_type,
        timeout_ns=asked.timeout_ms * 1_000_000,
        priority=asked.priority,
        idempotency_key=asked.idempotency_key,
        invocation_id=asked.invocation_id,
        execution_id=asked.execution_id,
        session_id=asked.session_id,
        parent_id=asked.parent_id,
        fresh_instance=asked.force_new_instance,
        metadata=headers | asked.metadata,
        webhook=asked.webhook,
    )


def answer_of(execution: Execution) -> Answer:
    """With the output as far as the record has it."""
    answer = Answer(
        invocation_id=execution.invocation_id,
        execution_id=execution.id,
        instance_id=execution.instance_id,
        status=STATUS[execution.status],
        durability=execution.durability,
        exit_code=execution.exit_code,
        attempt=execution.attempt,
        cause=execution.cause,
        output_digest=execution.output_digest,
        output_bytes=execution.output_bytes,
    )
    if execution.output or execution.content_type:
        answer.output = Payload(execution.content_type, execution.output)
    if execution.error is not None:
        answer.error = Failure(execution.error.code, execution.error.message)
    if execution.started_ns:
        answer.started_at = _time(execution.started_ns)
    if execution.finished_ns:
        answer.completed_at = _time(execution.finished_ns)
    return answer


def _time(ns: int) -> Time:
    return Time(*divmod(ns, 1_000_000_000))

"""Records and messages: the same fields, and each survives the way there and back."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from property_examples import examples

from spear.errors import InvalidArgument
from spear.protocol.convert.artifact import ARTIFACT
from spear.protocol.convert.execution import ERROR, EXECUTION, INSTANCE, INVOCATION
from spear.protocol.convert.log import LOG_LINE
from spear.protocol.convert.mirror import Mirror
from spear.protocol.convert.model import MODEL_INFO, MODEL_TEST
from spear.protocol.convert.object import (
    OBJECT_HEAD,
    OBJECT_INFO,
    READ_OBJECT,
    SNAPSHOT_OBJECT,
    WRITE_OBJECT,
    ObjectHead,
    ReadObject,
    SnapshotObject,
    WriteObject,
)
from spear.protocol.convert.schedule import SCHEDULE
from spear.protocol.convert.task import TASK
from spear.protocol.pb.spear.v1 import (
    artifact_pb2,
    execution_pb2,
    instance_pb2,
    model_pb2,
    object_pb2,
    schedule_pb2,
    task_pb2,
)
from spear.records import execution as executions
from spear.records import models, objects, schedule, task, usage
from tests.message_records import records

PAIRS: dict[str, tuple[type[msgspec.Struct], Any, Any]] = {
    "artifact": (task.Artifact, artifact_pb2.Artifact, ARTIFACT),
    "task": (task.Task, task_pb2.Task, TASK),
    "error": (executions.ExecutionError, execution_pb2.ExecutionError, ERROR),
    "execution": (executions.Execution, execution_pb2.Execution, EXECUTION),
    "invocation": (executions.Invocation, execution_pb2.Invocation, INVOCATION),
    "instance": (executions.Instance, instance_pb2.Instance, INSTANCE),
    "log line": (executions.LogLine, execution_pb2.LogLine, LOG_LINE),
    "model": (models.ModelInfo, model_pb2.ModelInfo, MODEL_INFO),
    "model test": (models.ModelTest, model_pb2.ModelTest, MODEL_TEST),
    "object": (objects.ObjectInfo, object_pb2.ObjectInfo, OBJECT_INFO),
    "object head": (ObjectHead, object_pb2.ObjectHead, OBJECT_HEAD),
    "read object": (ReadObject, object_pb2.ReadObjectResponse, READ_OBJECT),
    "snapshot object": (SnapshotObject, object_pb2.SnapshotObject, SNAPSHOT_OBJECT),
    "write object": (WriteObject, object_pb2.WriteObjectRequest, WRITE_OBJECT),
    "schedule": (schedule.Schedule, schedule_pb2.Schedule, SCHEDULE),
}
INNER = {
    "spec": (task.TaskSpec, task_pb2.TaskSpec),
    "limits": (task.Limits, task_pb2.Limits),
    "retry": (task.Retry, task_pb2.Retry),
    "pool": (task.Pool, task_pb2.Pool),
    "resources": (task.Resources, task_pb2.Resources),
    "directory": (task.Directory, task_pb2.Directory),
    "usage": (usage.Usage, execution_pb2.Usage),
    "frame": (executions.Frame, execution_pb2.Frame),
    "schedule spec": (schedule.ScheduleSpec, schedule_pb2.ScheduleSpec),
}
SHAPES = {name: pair[:2] for name, pair in PAIRS.items()} | INNER


@pytest.mark.parametrize("name", SHAPES)
def test_a_message_has_the_fields_of_its_record(name: str) -> None:
    record, message = SHAPES[name]
    fields = message.DESCRIPTOR.fields
    assert [f.name for f in fields] == list(record.__struct_fields__)
    assert [f.number for f in fields] == list(range(1, len(fields) + 1))


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_not_zero_by_default_is_optional(name: str) -> None:
    """Else a message of another language, which leaves it out, would mean zero."""
    record, message = SHAPES[name]
    for field in msgspec.structs.fields(record):
        inner = message.DESCRIPTOR.fields_by_name[field.name]
        zero = field.required or field.default in (0, "", b"", (), msgspec.NODEFAULT)
        if inner.is_repeated or zero:
            assert zero, field.name
        else:
            assert inner.has_presence, field.name


def number_types(made: Any) -> list[type]:
    """1 and 1.0 are equal, and not the same to a function."""
    return [type(v) for name in ("value", "call_args") for v in getattr(made, name, ())]


@pytest.mark.parametrize("name", PAIRS)
def test_every_field_survives(name: str) -> None:
    record, message, mirror = PAIRS[name]

    @settings(max_examples=examples(30), deadline=None)
    @given(records(record, message.DESCRIPTOR))
    def survives(made: Any) -> None:
        data = mirror.message(made).SerializeToString()
        back = mirror.record(message.FromString(data))
        assert back == made
        assert number_types(back) == number_types(made)

    survives()


@pytest.mark.parametrize("name", PAIRS)
def test_any_message_becomes_a_record_or_is_refused(name: str) -> None:
    """Bytes from outside: what protobuf accepts must not raise anything of its own."""
    _, message, mirror = PAIRS[name]

    @settings(max_examples=examples(30), deadline=None)
    @given(st.binary(max_size=60))
    def holds(data: bytes) -> None:
        try:
            parsed = message.FromString(data)
        except DecodeError:
            return
        with contextlib.suppress(InvalidArgument):
            mirror.message(mirror.record(parsed))

    holds()


def test_an_empty_message_is_a_record_at_its_defaults() -> None:
    spec = task_pb2.TaskSpec(name="a", artifact="b", retry=task_pb2.Retry())
    made = TASK.record(task_pb2.Task(id="1", version=1, spec=spec))
    assert made == task.Task(id="1", version=1, spec=task.TaskSpec(name="a", artifact="b"))


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (executions.Execution(id="1", timeout_ns=1 << 63), "Execution.timeout_ns"),
        (executions.Execution(id="\udc80"), "Execution.id"),
        (executions.Execution(id=1), "Execution.id"),  # type: ignore[arg-type]
        (executions.Execution(id="1", value=(1 << 64,)), "Execution.value"),
        (executions.Execution(id="1", metadata={"a": 1}), "Execution.metadata"),  # type: ignore[dict-item]
    ],
)
def test_a_value_that_no_message_holds_is_refused_by_name(
    made: executions.Execution, field: str
) -> None:
    with pytest.raises(InvalidArgument, match=field):
        EXECUTION.message(made)


def test_a_record_that_must_be_there_is_asked_for_by_name() -> None:
    with pytest.raises(InvalidArgument, match=r"Task\.spec is missing"):
        TASK.record(task_pb2.Task(id="1"))


def test_a_number_of_an_unknown_kind_is_refused() -> None:
    message = execution_pb2.Execution(id="1")
    message.value.add()
    with pytest.raises(InvalidArgument, match="not known here"):
        EXECUTION.record(message)


@pytest.mark.parametrize("name", PAIRS)
def test_the_way_by_bytes_is_the_way_field_by_field(name: str) -> None:
    record, message, mirror = PAIRS[name]

    @settings(max_examples=examples(30), deadline=None)
    @given(records(record, message.DESCRIPTOR))
    def same(made: Any) -> None:
        slow = mirror.slow_message(made)
        assert mirror.slow_record(mirror.message(made)) == mirror.record(slow) == made
        data = mirror.encode(made)
        assert mirror.slow_record(message.FromString(data)) == mirror.decode(data) == made

    same()


def test_a_mirror_of_one_field_works_too() -> None:
    class Reading(msgspec.Struct):
        id: str = ""

    mirror = Mirror(Reading, execution_pb2.ReadResultRequest)
    assert mirror.record(mirror.message(Reading(id="x"))) == Reading(id="x")
    assert mirror.records(mirror.messages([Reading("1"), Reading("2")]))[1] == Reading("2")


def test_the_common_calls_of_objects_go_by_bytes() -> None:
    info = objects.ObjectInfo(key="a", size=1, version=1 << 62, durability="power")
    write = WriteObject(head=ObjectHead(key="a", overwrite=False, if_version=0), value=b"x")
    assert OBJECT_INFO.fields.encode(info) is not None
    assert WRITE_OBJECT.fields.encode(write) is not None
    assert READ_OBJECT.fields.encode(ReadObject(info=info, value=bytes(1 << 20))) is not None

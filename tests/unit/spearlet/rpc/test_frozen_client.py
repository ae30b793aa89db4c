"""A client that knows the frozen package and nothing of what we added: its messages are built here
from descriptors without the fields from 100 on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from door_callers import SHOWN, GrpcNode
from google.protobuf import descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from spear.protocol.pb.spearlet import function_pb2, instance_pb2, object_pb2

ADDED_FROM = 100


def frozen_file(module: Any) -> FileDescriptorProto:
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        kept = [field for field in message.field if field.number < ADDED_FROM]
        del message.field[:]
        message.field.extend(kept)
        assert not any(field.HasField("oneof_index") for field in kept)
        del message.oneof_decl[:]
    return file


@pytest.fixture(scope="module")
def old() -> dict[str, type[Message]]:
    """The frozen messages by their names."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    found: dict[str, type[Message]] = {}
    for module in (function_pb2, instance_pb2, object_pb2):
        file = frozen_file(module)
        pool.Add(file)
        for message in file.message_type:
            descriptor = pool.FindMessageTypeByName(f"spearlet.{message.name}")
            found[message.name] = message_factory.GetMessageClass(descriptor)
    return found


@pytest.fixture
async def served() -> AsyncIterator[GrpcNode]:
    async with GrpcNode() as served:
        yield served


class Client:
    def __init__(self, served: GrpcNode, old: dict[str, type[Message]]) -> None:
        self._channel, self._old = served.channel, old

    async def call(self, path: str, answer: str, **fields: Any) -> Any:
        request = self._old[path.rpartition("/")[2] + "Request"](**fields)
        call = self._channel.unary_unary(
            f"/spearlet.{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._old[answer].FromString,
        )
        return await call(request, metadata=SHOWN, timeout=20)


def test_the_messages_have_none_of_ours(old: dict[str, type[Message]]) -> None:
    assert "durability" not in old["InvokeResponse"].DESCRIPTOR.fields_by_name
    assert "if_version" not in old["PutObjectRequest"].DESCRIPTOR.fields_by_name
    assert len(old["InvokeRequest"].DESCRIPTOR.fields) == 12


async def test_it_invokes_and_looks_after_executions(
    served: GrpcNode, old: dict[str, type[Message]]
) -> None:
    client = Client(served, old)
    fields: dict[str, Any] = {
        "task_id": "echo", "invocation_id": "i", "input": {"content_type": "t", "data": b"hi"},
        "headers": {"a": "b"}, "environment": {"A": "B"}, "metadata": {"m": "n"},
    }  # fmt: skip
    answer = await client.call("InvocationService/Invoke", "InvokeResponse", mode=1, **fields)
    assert (answer.status, answer.output.data, answer.invocation_id) == (3, b"hi", "i")
    assert answer.completed_at.seconds == 3
    answer = await client.call("InvocationService/Invoke", "InvokeResponse", mode=2, **fields)
    assert answer.status == 1
    id = answer.execution_id
    found = await client.call("ExecutionService/GetExecution", "Execution", execution_id=id)
    assert (found.execution_id, found.status, found.task_id) == (id, 1, "task-echo")
    ended = await client.call(
        "ExecutionService/TerminateExecution", "TerminateExecutionResponse", execution_id=id
    )
    assert (ended.success, ended.final_status) == (True, 5)
    listed = await client.call("ExecutionService/ListExecutions", "ListExecutionsResponse", limit=1)
    assert [execution.execution_id for execution in listed.executions] == [id]
    assert listed.next_page_token
    gone = await client.call(
        "InstanceService/DestroyInstance", "DestroyInstanceResponse", instance_id="none"
    )
    assert not gone.success


async def test_it_keeps_objects(served: GrpcNode, old: dict[str, type[Message]]) -> None:
    client = Client(served, old)

    async def ask(verb: str, **fields: Any) -> Any:
        return await client.call(f"ObjectService/{verb}", f"{verb}Response", key="k", **fields)

    put = await ask("PutObject", value=b"v", metadata={"m": "n"})
    assert (put.success, put.object_meta.key, put.object_meta.size) == (True, "k", 1)
    assert not (await ask("PutObject", value=b"w")).success
    assert (await ask("PutObject", value=b"w", overwrite=True)).success
    got = await ask("GetObject", include_value=True)
    assert (got.found, got.object.value) == (True, b"w")
    assert (await ask("AddObjectRef", count=2)).new_ref_count == 2
    assert not (await ask("DeleteObject")).success
    assert (await ask("PinObject")).success
    assert (await ask("UnpinObject")).success
    assert (await ask("RemoveObjectRef", count=1)).new_ref_count == 1
    gone = await ask("DeleteObject", force=True)
    assert (gone.success, gone.deleted) == (True, True)
    gone = await ask("DeleteObject", force=True)
    assert (gone.success, gone.deleted) == (False, False)
    listed = await client.call("ObjectService/ListObjects", "ListObjectsResponse", prefix="k")
    assert list(listed.objects) == []

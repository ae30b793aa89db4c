"""The services of package `spear.v1`: everything of a node, large values as streams."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from door_callers import OBJECT_BYTES_MAX, GrpcNode

from spear.errors import InvalidArgument
from spear.protocol.convert.execution import EXECUTION, INVOCATION
from spear.protocol.convert.task import TASK, TASK_SPEC
from spear.protocol.pb.spear.v1 import (
    artifact_pb2,
    execution_pb2,
    instance_pb2,
    model_pb2,
    node_pb2,
    object_pb2,
    schedule_pb2,
    task_pb2,
)
from spear.protocol.pb.spear.v1.value_pb2 import Chunk
from spear.records.execution import Invocation
from spear.records.task import Limits, Retry, TaskSpec
from spear.spearlet.rpc.chunks import CHUNK_BYTES, whole

ARTIFACTS, TASKS = "/spear.v1.ArtifactService/", "/spear.v1.TaskService/"
EXECUTIONS, OBJECTS = "/spear.v1.ExecutionService/", "/spear.v1.ObjectService/"
SCHEDULES, NODES = "/spear.v1.ScheduleService/", "/spear.v1.NodeService/"
MODELS = "/spear.v1.ModelService/"
INSTANCES = "/spear.v1.InstanceService/"


@pytest.fixture
async def served() -> AsyncIterator[GrpcNode]:
    async with GrpcNode() as served:
        yield served


def code_of(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> str:
    return caught.value.code().name


async def put_artifact(served: GrpcNode, *chunks: bytes, **head: object) -> artifact_pb2.Artifact:
    parts = [artifact_pb2.PutArtifactRequest(head=artifact_pb2.ArtifactHead(**head))]  # type: ignore[arg-type]
    parts += [artifact_pb2.PutArtifactRequest(chunk=chunk) for chunk in chunks]
    return await served.call(ARTIFACTS + "Put", parts, artifact_pb2.Artifact)


async def test_an_artifact_is_put_and_read_in_chunks(served: GrpcNode) -> None:
    data = bytes(range(256)) * 1000
    made = await put_artifact(
        served, data[:100_000], data[100_000:], name="n", version="1", dependencies=["d"]
    )
    digest = hashlib.sha256(data).hexdigest()
    assert (made.digest, made.size, made.name, made.version) == (digest, len(data), "n", "1")
    assert list(made.dependencies) == ["d"]
    request = artifact_pb2.GetArtifactRequest(digest=digest[:8])
    chunks = await served.stream(ARTIFACTS + "Get", request, Chunk)
    assert b"".join(chunk.data for chunk in chunks) == data
    assert max(len(chunk.data) for chunk in chunks) == CHUNK_BYTES
    stat = await served.call(ARTIFACTS + "Stat", request, artifact_pb2.Artifact)
    assert stat == made
    listed = await served.call(
        ARTIFACTS + "List", artifact_pb2.ListArtifactsRequest(), artifact_pb2.ListArtifactsResponse
    )
    assert list(listed.artifacts) == [made]
    gone = artifact_pb2.DeleteArtifactRequest(digest=digest)
    assert await served.call(ARTIFACTS + "Delete", gone, artifact_pb2.Artifact) == made


async def test_a_digest_said_is_checked(served: GrpcNode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_artifact(served, b"x", digest="0" * 64)
    assert code_of(caught) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("parts", ["", "c", "hh", "hch"])
async def test_a_stream_out_of_order_is_refused(served: GrpcNode, parts: str) -> None:
    head = artifact_pb2.PutArtifactRequest(head=artifact_pb2.ArtifactHead(name="n"))
    chunk = artifact_pb2.PutArtifactRequest(chunk=b"c")
    sent = [head if part == "h" else chunk for part in parts]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(ARTIFACTS + "Put", sent, artifact_pb2.Artifact)
    assert code_of(caught) == "INVALID_ARGUMENT"


async def test_a_task_lives_from_register_to_unregister(served: GrpcNode) -> None:
    spec = TaskSpec(
        name="t", artifact="a" * 64, args=("x",), limits=Limits(timeout_ns=5), env={"A": "b"},
        retry=Retry(attempts=3, on=("TRAP",)),
    )  # fmt: skip
    register = task_pb2.RegisterTaskRequest(spec=TASK_SPEC.message(spec))
    task = TASK.record(await served.call(TASKS + "Register", register, task_pb2.Task))
    assert (task.spec, task.version) == (spec, 1)
    register.spec.description = "another"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(TASKS + "Register", register, task_pb2.Task)
    assert code_of(caught) == "ALREADY_EXISTS"
    for version, code in ((9, "ABORTED"), (1, "")):
        update = task_pb2.UpdateTaskRequest(spec=register.spec, if_version=version)
        if code:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.call(TASKS + "Update", update, task_pb2.Task)
            assert code_of(caught) == code
        else:
            assert (await served.call(TASKS + "Update", update, task_pb2.Task)).version == 2
    status = task_pb2.SetTaskStatusRequest(task="t", status="inactive")
    assert (await served.call(TASKS + "SetStatus", status, task_pb2.Task)).status == "inactive"
    listing = task_pb2.ListTasksRequest(status="inactive")
    listed = await served.call(TASKS + "List", listing, task_pb2.ListTasksResponse)
    assert [found.id for found in listed.tasks] == [task.id]
    found = await served.call(TASKS + "Get", task_pb2.GetTaskRequest(task=task.id), task_pb2.Task)
    assert found.spec.name == "t"
    gone = task_pb2.UnregisterTaskRequest(task="t", reason="r")
    await served.call(TASKS + "Unregister", gone, task_pb2.Task)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(TASKS + "Get", task_pb2.GetTaskRequest(task="t"), task_pb2.Task)
    assert code_of(caught) == "NOT_FOUND"


async def test_an_invocation_reaches_the_node_whole(served: GrpcNode) -> None:
    invocation = Invocation(
        function="f", call_args=(1, 2.5), args=(), env={"A": "b"}, timeout_ns=7, priority="high",
        idempotency_key="k", fresh_instance=True, metadata={"m": "n"}, webhook="http://h/",
    )  # fmt: skip
    request = execution_pb2.InvokeRequest(
        task="echo", input=b"hi", invocation=INVOCATION.message(invocation)
    )
    for verb, ended in (("Invoke", True), ("Submit", False)):
        answer = await served.call(EXECUTIONS + verb, request, execution_pb2.Execution)
        record = EXECUTION.record(answer)
        assert served.node.inputs.pop() == (b"hi", invocation)
        assert record.ended is ended
        assert record.output == (b"hi" if ended else b"")


async def test_a_spec_runs_without_a_task(served: GrpcNode) -> None:
    spec = TASK_SPEC.message(TaskSpec(name="echo", artifact="a" * 64))
    request = execution_pb2.InvokeRequest(spec=spec, input=b"hi")
    answer = await served.call(EXECUTIONS + "Invoke", request, execution_pb2.Execution)
    assert answer.output == b"hi"
    with pytest.raises(grpc.aio.AioRpcError, match="nothing to run"):
        await served.call(
            EXECUTIONS + "Invoke", execution_pb2.InvokeRequest(), execution_pb2.Execution
        )


async def test_an_execution_is_looked_after_to_its_end(served: GrpcNode) -> None:
    submit = execution_pb2.InvokeRequest(task="wait")
    running = await served.call(EXECUTIONS + "Submit", submit, execution_pb2.Execution)
    remove = execution_pb2.RemoveExecutionRequest(id=running.id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(EXECUTIONS + "Remove", remove, execution_pb2.Execution)
    assert code_of(caught) == "FAILED_PRECONDITION"
    cancel = execution_pb2.CancelExecutionRequest(id=running.id, reason="r")
    answer = await served.call(EXECUTIONS + "Cancel", cancel, execution_pb2.Execution)
    assert answer.status == "terminated"
    wait = execution_pb2.WaitExecutionRequest(id=running.id, include_output=True)
    assert (await served.call(EXECUTIONS + "Wait", wait, execution_pb2.Execution)).cause
    listing = execution_pb2.ListExecutionsRequest(status="terminated")
    listed = await served.call(EXECUTIONS + "List", listing, execution_pb2.ListExecutionsResponse)
    assert [found.id for found in listed.executions] == [running.id]
    watch = execution_pb2.WatchExecutionsRequest(id=running.id)
    seen = await served.stream(EXECUTIONS + "Watch", watch, execution_pb2.Execution)
    assert [found.status for found in seen] == ["terminated"] * 2
    await served.call(EXECUTIONS + "Remove", remove, execution_pb2.Execution)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        get = execution_pb2.GetExecutionRequest(id=running.id)
        await served.call(EXECUTIONS + "Get", get, execution_pb2.Execution)
    assert code_of(caught) == "NOT_FOUND"


async def test_a_result_is_read_in_chunks(served: GrpcNode) -> None:
    request = execution_pb2.InvokeRequest(task="echo", input=b"r" * 200_000)
    made = await served.call(EXECUTIONS + "Invoke", request, execution_pb2.Execution)
    read = execution_pb2.ReadResultRequest(id=made.id)
    chunks = await served.stream(EXECUTIONS + "ReadResult", read, Chunk)
    assert b"".join(chunk.data for chunk in chunks) == b"r" * 200_000
    assert len(chunks) == 4


async def test_a_log_comes_in_batches_that_fit(served: GrpcNode) -> None:
    made = await served.call(
        EXECUTIONS + "Invoke", execution_pb2.InvokeRequest(task="echo"), execution_pb2.Execution
    )
    served.node.give_logs(made.id, ["x" * 30_000] * 5 + ["y" * 100_000, "z"])
    request = execution_pb2.LogsRequest(id=made.id, after_seq=1)
    batches = await served.stream(EXECUTIONS + "Logs", request, execution_pb2.LogBatch)
    assert [line.seq for batch in batches for line in batch.lines] == [2, 3, 4, 5, 6, 7]
    assert [len(batch.lines) for batch in batches] == [2, 2, 1, 1]


async def put_object(
    served: GrpcNode, key: str, *chunks: bytes, **head: object
) -> object_pb2.ObjectInfo:
    parts = [object_pb2.PutObjectRequest(head=object_pb2.ObjectHead(key=key, **head))]  # type: ignore[arg-type]
    parts += [object_pb2.PutObjectRequest(chunk=chunk) for chunk in chunks]
    return await served.call(OBJECTS + "Put", parts, object_pb2.ObjectInfo)


async def test_an_object_of_many_chunks_is_put_and_read(served: GrpcNode) -> None:
    info = await put_object(
        served, "a", *[b"c" * 60_000] * 3, metadata={"k": "v"}, durable=True, if_version=0
    )
    assert (info.size, info.version, info.durability) == (180_000, 1, "power")
    request = object_pb2.GetObjectRequest(key="a")
    answers = await served.stream(OBJECTS + "Get", request, object_pb2.GetObjectResponse)
    assert answers[0].info == info
    assert b"".join(answer.chunk for answer in answers[1:]) == b"c" * 180_000
    assert max(len(answer.chunk) for answer in answers) <= CHUNK_BYTES
    assert (await put_object(served, "empty")).size == 0


@pytest.mark.parametrize(
    ("head", "code"), [({"if_version": 9}, "ABORTED"), ({"overwrite": False}, "ALREADY_EXISTS")]
)
async def test_a_put_that_must_not_replace_is_a_status(
    served: GrpcNode, head: dict[str, object], code: str
) -> None:
    await put_object(served, "a", b"1")
    await put_object(served, "a", b"2")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_object(served, "a", b"3", **head)
    assert code_of(caught) == code


async def test_an_object_beyond_the_limit_is_refused(served: GrpcNode) -> None:
    chunks = [b"c" * 60_000] * (OBJECT_BYTES_MAX // 60_000 + 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_object(served, "a", *chunks)
    assert code_of(caught) == "INVALID_ARGUMENT"
    assert f"object 'a' is larger than {OBJECT_BYTES_MAX} bytes" in str(caught.value.details())


async def test_what_is_too_large_is_noticed_while_it_comes() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"c" * 10

    with pytest.raises(InvalidArgument, match="larger than 95 bytes"):
        await whole(endless(), "it", 95)
    assert taken == 10


async def test_references_pins_and_deletes_of_objects(served: GrpcNode) -> None:
    await put_object(served, "a", b"1")
    ref = object_pb2.ObjectRefRequest(key="a", count=2)
    answer = await served.call(OBJECTS + "AddRef", ref, object_pb2.ObjectRefResponse)
    assert answer.ref_count == 2
    pin = object_pb2.ObjectPinRequest(key="a")
    await served.call(OBJECTS + "Pin", pin, object_pb2.ObjectPinResponse)
    stat = object_pb2.StatObjectRequest(key="a")
    info = await served.call(OBJECTS + "Stat", stat, object_pb2.ObjectInfo)
    assert (info.pinned, info.ref_count) == (True, 2)
    await served.call(OBJECTS + "Unpin", pin, object_pb2.ObjectPinResponse)
    delete = object_pb2.DeleteObjectRequest(key="a")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(OBJECTS + "Delete", delete, object_pb2.DeleteObjectResponse)
    assert code_of(caught) == "FAILED_PRECONDITION"
    answer = await served.call(OBJECTS + "RemoveRef", ref, object_pb2.ObjectRefResponse)
    assert (answer.ref_count, answer.deleted) == (0, True)
    listing = object_pb2.ListObjectsRequest()
    listed = await served.call(OBJECTS + "List", listing, object_pb2.ListObjectsResponse)
    assert list(listed.objects) == []


async def test_small_objects_of_a_snapshot_share_messages_and_large_ones_are_cut(
    served: GrpcNode,
) -> None:
    values = {f"s/{number:04}": b"v" * 1000 for number in range(300)} | {"s/large": b"l" * 200_000}
    for key, value in values.items():
        await served.node.put_object(key, value, metadata={"n": key})
    request = object_pb2.SnapshotObjectsRequest(prefix="s/")
    parts = await served.stream(OBJECTS + "Snapshot", request, object_pb2.SnapshotObjectsResponse)
    assert max(part.ByteSize() for part in parts) < 2 * CHUNK_BYTES
    assert len(parts) < 20
    found: dict[str, bytes] = {}
    for part in parts:
        if part.chunk:
            found[next(reversed(found))] += part.chunk
        found |= {one.info.key: one.value for one in part.objects}
        assert all(one.info.metadata == {"n": one.info.key} for one in part.objects)
    assert found == values


async def test_a_transaction_is_whole_or_a_conflict(served: GrpcNode) -> None:
    await put_object(served, "a", b"1")
    writes = {"b": object_pb2.ObjectWrite(value=b""), "a": object_pb2.ObjectWrite()}
    for reads, code in (({"a": 9}, "ABORTED"), ({"a": 1, "b": 0}, "")):
        request = object_pb2.TransactRequest(reads=reads, writes=writes)
        if code:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await served.call(OBJECTS + "Transact", request, object_pb2.TransactResponse)
            assert code_of(caught) == code
        else:
            answer = await served.call(OBJECTS + "Transact", request, object_pb2.TransactResponse)
            assert dict(answer.versions) == {"b": 1}
    listing = object_pb2.ListObjectsRequest()
    listed = await served.call(OBJECTS + "List", listing, object_pb2.ListObjectsResponse)
    assert [info.key for info in listed.objects] == ["b"]


async def test_schedules_are_added_listed_and_removed(served: GrpcNode) -> None:
    spec = schedule_pb2.ScheduleSpec(task="t", cron="* * * * *", input=b"i", missed="skip")
    add = schedule_pb2.AddScheduleRequest(spec=spec)
    made = await served.call(SCHEDULES + "Add", add, schedule_pb2.Schedule)
    assert (made.spec.cron, made.spec.missed, made.next_ns) == ("* * * * *", "skip", 7)
    listing = schedule_pb2.ListSchedulesRequest()
    listed = await served.call(SCHEDULES + "List", listing, schedule_pb2.ListSchedulesResponse)
    assert list(listed.schedules) == [made]
    get = schedule_pb2.GetScheduleRequest(id=made.id)
    assert await served.call(SCHEDULES + "Get", get, schedule_pb2.Schedule) == made
    remove = schedule_pb2.RemoveScheduleRequest(id=made.id)
    assert await served.call(SCHEDULES + "Remove", remove, schedule_pb2.Schedule) == made
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(SCHEDULES + "Get", get, schedule_pb2.Schedule)
    assert code_of(caught) == "NOT_FOUND"


async def test_instances_are_listed_and_destroyed(served: GrpcNode) -> None:
    served.node.give_instance("i", "echo")
    listing = instance_pb2.ListInstancesRequest(task="echo")
    listed = await served.call(INSTANCES + "List", listing, instance_pb2.ListInstancesResponse)
    assert [instance.id for instance in listed.instances] == ["i"]
    destroy = instance_pb2.DestroyInstanceRequest(id="i")
    gone = await served.call(INSTANCES + "Destroy", destroy, instance_pb2.Instance)
    assert gone.status == "terminated"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(INSTANCES + "Destroy", destroy, instance_pb2.Instance)
    assert code_of(caught) == "NOT_FOUND"


async def test_models_are_listed_and_tried(served: GrpcNode) -> None:
    listing = model_pb2.ListModelsRequest()
    listed = await served.call(MODELS + "List", listing, model_pb2.ListModelsResponse)
    assert [found.name for found in listed.models] == ["m"]
    request = model_pb2.TestModelRequest(name="m", prompt="p", timeout_ns=7, model="s")
    tried = await served.call(MODELS + "Test", request, model_pb2.ModelTest)
    assert (tried.answer, tried.model) == ("p 7", "s")
    for wrong, code in (("other", "NOT_FOUND"), ("m", "INVALID_ARGUMENT")):
        request = model_pb2.TestModelRequest(name=wrong, timeout_ns=-(wrong == "m"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(MODELS + "Test", request, model_pb2.ModelTest)
        assert code_of(caught) == code


async def test_the_node_tells_of_itself_and_drains(served: GrpcNode) -> None:
    info = await served.call(NODES + "Info", node_pb2.NodeInfoRequest(), node_pb2.NodeInfo)
    assert info.values["name"] == "fake"
    stats = await served.call(NODES + "Stats", node_pb2.NodeStatsRequest(), node_pb2.NodeStats)
    assert stats.groups["executions"].values["total"] == 0
    with pytest.raises(grpc.aio.AioRpcError, match="grace_ns is -1"):
        await served.call(
            NODES + "Drain", node_pb2.DrainRequest(grace_ns=-1), node_pb2.DrainResponse
        )
    drain = node_pb2.DrainRequest(grace_ns=5)
    await served.call(NODES + "Drain", drain, node_pb2.DrainResponse)
    assert served.node.calls == ["drain 5"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(
            EXECUTIONS + "Invoke", execution_pb2.InvokeRequest(task="echo"), execution_pb2.Execution
        )
    assert code_of(caught) == "UNAVAILABLE"

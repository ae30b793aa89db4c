"""The services of package `spearlet`: what their messages say, and what is the call's status."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from door_callers import GrpcNode
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.protocol.pb.spearlet import instance_pb2, object_pb2
from spear.records.execution import Execution
from spear.spearlet.rpc import invocation, object

INVOKE = "/spearlet.InvocationService/Invoke"
EXECUTIONS = "/spearlet.ExecutionService/"
OBJECTS = "/spearlet.ObjectService/"


@pytest.fixture
async def served() -> AsyncIterator[GrpcNode]:
    async with GrpcNode() as served:
        yield served


async def invoke(served: GrpcNode, task: str = "echo", **fields: object) -> pb.InvokeResponse:
    request = pb.InvokeRequest(task_id=task, **fields)  # type: ignore[arg-type]
    return await served.call(INVOKE, request, pb.InvokeResponse)


async def refusal(served: GrpcNode, **fields: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await invoke(served, **fields)  # type: ignore[arg-type]
    return caught.value


async def put(served: GrpcNode, key: str, value: bytes = b"v", **fields: object) -> str:
    """Puts an object; the message of a refusal, "" where it was put."""
    request = object_pb2.PutObjectRequest(key=key, value=value, **fields)  # type: ignore[arg-type]
    answer = await served.call(OBJECTS + "PutObject", request, object_pb2.PutObjectResponse)
    assert answer.success is not bool(answer.message)
    return answer.message


async def test_a_sync_invoke_answers_with_the_outcome(served: GrpcNode) -> None:
    answer = await invoke(
        served, invocation_id="call", input=pb.Payload(content_type="text/plain", data=b"hi")
    )
    assert (answer.invocation_id, answer.execution_id) == ("call", "execution-0001")
    assert answer.status == pb.EXECUTION_STATUS_COMPLETED
    assert (answer.output.data, answer.output.content_type) == (b"hi", "text/plain")
    assert (answer.instance_id, answer.exit_code, answer.durability) == ("instance-1", 0, "crash")
    assert answer.started_at.ToNanoseconds() == 2_000_000_001
    assert answer.completed_at.ToNanoseconds() == 3_000_000_000
    assert not answer.HasField("error")


async def test_all_of_a_request_reaches_the_node(served: GrpcNode) -> None:
    await invoke(
        served, execution_id="mine", function_name="f", headers={"h": "1"},
        environment={"NAME": "value"}, timeout_ms=1500, session_id="s", force_new_instance=True,
        metadata={"m": "2"}, input=pb.Payload(data=b"x"), args=["a"], priority="high",
        idempotency_key="k",
    )  # fmt: skip
    ((data, seen),) = served.node.inputs
    assert data == b"x"
    assert (seen.execution_id, seen.function, seen.session_id) == ("mine", "f", "s")
    assert seen.env == {"NAME": "value"}
    assert seen.metadata == {"header.h": "1", "m": "2"}
    assert seen.timeout_ns == 1_500_000_000
    assert (seen.fresh_instance, seen.args, seen.priority) == (True, ("a",), "high")
    assert seen.idempotency_key == "k"


async def test_a_timeout_of_0_is_the_task_s_and_so_are_absent_args(served: GrpcNode) -> None:
    await invoke(served)
    ((_, seen),) = served.node.inputs
    assert (seen.timeout_ns, seen.args, seen.fresh_instance) == (0, None, False)


@pytest.mark.parametrize("mode", [pb.EXECUTION_MODE_UNSPECIFIED, pb.EXECUTION_MODE_SYNC])
async def test_sync_is_the_mode_unless_said(served: GrpcNode, mode: pb.ExecutionMode) -> None:
    await invoke(served, mode=mode)
    assert served.node.calls == ["invoke"]


async def test_an_async_invoke_answers_pending_at_once(served: GrpcNode) -> None:
    answer = await invoke(served, "wait", mode=pb.EXECUTION_MODE_ASYNC)
    assert served.node.calls == ["submit"]
    assert answer.status == pb.EXECUTION_STATUS_PENDING
    assert answer.execution_id
    assert not answer.HasField("started_at")


async def test_a_task_is_named_by_id_or_name(served: GrpcNode) -> None:
    assert (await invoke(served, "task-echo")).status == pb.EXECUTION_STATUS_COMPLETED


async def test_a_failed_execution_is_an_answer(served: GrpcNode) -> None:
    answer = await invoke(served, "fail")
    assert answer.status == pb.EXECUTION_STATUS_FAILED
    assert (answer.error.code, answer.error.message) == ("EXIT", "it exited with 3")
    assert answer.exit_code == 3


async def test_an_error_has_its_real_code_and_details(served: GrpcNode) -> None:
    error = await refusal(served, task="nope")
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details() == "no task 'nope'"
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status, info = Status.FromString(details), ErrorInfo()
    assert (status.code, status.message) == (5, "no task 'nope'")
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("NOT_FOUND", "spear")


async def test_what_makes_no_sense_is_an_invalid_argument(served: GrpcNode) -> None:
    for fields in ({"task": ""}, {"mode": 7}, {"mode": -1}, {"timeout_ms": 1 << 63}):
        error = await refusal(served, **fields)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, fields


async def test_a_fault_tells_the_log_and_nothing_to_the_caller(served: GrpcNode) -> None:
    error = await refusal(served, task="boom")
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "invariant" not in str(error.details())
    ((_, fault),) = served.faults
    assert isinstance(fault, RuntimeError)


async def test_bytes_that_are_no_request_are_an_invalid_argument(served: GrpcNode) -> None:
    from door_callers import SHOWN

    for path in (INVOKE, "/spear.v1.ExecutionService/Watch"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.channel.unary_unary(path)(b"\xff\xff\xff", metadata=SHOWN)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "is no spear" in str(caught.value.details())
    assert served.faults == []


async def test_a_result_that_lies_elsewhere_is_put_into_the_answer(
    served: GrpcNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await invoke(served)
    served.node.give_result(answer.execution_id, b"r" * 100_000)
    request = pb.GetExecutionRequest(execution_id=answer.execution_id, include_output=True)
    found = await served.call(EXECUTIONS + "GetExecution", request, pb.Execution)
    assert found.output.data == b"r" * 100_000
    monkeypatch.setattr(invocation, "ONE_MESSAGE_BYTES_MAX", 99_999)
    found = await served.call(EXECUTIONS + "GetExecution", request, pb.Execution)
    assert (found.output.data, found.output_bytes) == (b"", 100_000)
    assert found.output_digest


async def test_a_result_that_is_in_the_record_and_too_large_for_an_answer_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invocation, "ONE_MESSAGE_BYTES_MAX", 99)
    record = Execution(
        id="e", status="completed", output=b"r" * 100, output_bytes=100, output_digest="d"
    )
    left_out = await invocation.with_output(None, record)  # type: ignore[arg-type]
    assert (left_out.output, left_out.output_digest) == (b"", "d")


async def test_an_execution_is_looked_up_with_its_output_where_asked(served: GrpcNode) -> None:
    await invoke(served, input=pb.Payload(data=b"hi"))
    for wanted, output in ((False, b""), (True, b"hi")):
        request = pb.GetExecutionRequest(execution_id="execution-0001", include_output=wanted)
        found = await served.call(EXECUTIONS + "GetExecution", request, pb.Execution)
        assert (found.task_name, found.output.data) == ("echo", output)


@pytest.mark.parametrize("id", ["", "unknown"])
async def test_an_unknown_execution_is_a_status(served: GrpcNode, id: str) -> None:
    code = grpc.StatusCode.NOT_FOUND if id else grpc.StatusCode.INVALID_ARGUMENT
    for request, response in (
        (pb.GetExecutionRequest(execution_id=id), pb.Execution),
        (pb.TerminateExecutionRequest(execution_id=id), pb.TerminateExecutionResponse),
    ):
        name = type(request).__name__.removesuffix("Request")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(EXECUTIONS + name, request, response)
        assert caught.value.code() == code


async def test_terminate_says_whether_it_is_terminated(served: GrpcNode) -> None:
    running = (await invoke(served, "wait", mode=pb.EXECUTION_MODE_ASYNC)).execution_id
    ended = (await invoke(served)).execution_id
    path = EXECUTIONS + "TerminateExecution"
    for _ in range(2):
        request = pb.TerminateExecutionRequest(execution_id=running, reason="enough")
        answer = await served.call(path, request, pb.TerminateExecutionResponse)
        assert answer.success
        assert answer.final_status == pb.EXECUTION_STATUS_TERMINATED
    request = pb.TerminateExecutionRequest(execution_id=ended)
    answer = await served.call(path, request, pb.TerminateExecutionResponse)
    assert (answer.success, answer.final_status) == (False, pb.EXECUTION_STATUS_COMPLETED)
    assert "completed" in answer.message


async def test_executions_are_listed_in_pages(served: GrpcNode) -> None:
    for number in range(5):
        await invoke(served, "fail" if number == 2 else "echo", invocation_id=f"i{number}")
    found, token = [], ""
    while True:
        request = pb.ListExecutionsRequest(limit=2, page_token=token)
        page = await served.call(EXECUTIONS + "ListExecutions", request, pb.ListExecutionsResponse)
        found += [execution.invocation_id for execution in page.executions]
        token = page.next_page_token
        if not token:
            break
    assert found == ["i4", "i3", "i2", "i1", "i0"]
    request = pb.ListExecutionsRequest(task_id="fail", status="failed")
    page = await served.call(EXECUTIONS + "ListExecutions", request, pb.ListExecutionsResponse)
    assert [execution.invocation_id for execution in page.executions] == ["i2"]


async def test_destroying_an_instance_is_an_answer_either_way(served: GrpcNode) -> None:
    served.node.give_instance("i-1", "echo")
    path = "/spearlet.InstanceService/DestroyInstance"
    for success in (True, False):
        request = instance_pb2.DestroyInstanceRequest(instance_id="i-1")
        answer = await served.call(path, request, instance_pb2.DestroyInstanceResponse)
        assert answer.success is success
    assert answer.message == "no instance 'i-1'"


async def test_an_object_that_is_there_is_overwritten_only_where_said(served: GrpcNode) -> None:
    assert await put(served, "shared/a", b"1") == ""
    assert "there already" in await put(served, "shared/a", b"2")
    assert await put(served, "shared/a", b"3", overwrite=True) == ""


async def test_a_version_asked_for_is_a_condition_and_its_conflict_a_status(
    served: GrpcNode,
) -> None:
    assert await put(served, "shared/a", if_version=0) == ""
    assert await put(served, "shared/a", if_version=1) == ""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(served, "shared/a", if_version=1)
    assert caught.value.code() == grpc.StatusCode.ABORTED
    assert "is at version 2" in str(caught.value.details())


async def test_an_object_is_read_with_its_value_where_asked(served: GrpcNode) -> None:
    await put(served, "shared/a", b"value", metadata={"k": "v"}, durable=True)
    for wanted, value in ((True, b"value"), (False, b"")):
        request = object_pb2.GetObjectRequest(key="shared/a", include_value=wanted)
        answer = await served.call(OBJECTS + "GetObject", request, object_pb2.GetObjectResponse)
        assert answer.found
        assert (answer.object.value, answer.object.size) == (value, 5)
        assert dict(answer.object.metadata) == {"k": "v"}
        assert (answer.object.version, answer.object.durability) == (1, "power")
    request = object_pb2.GetObjectRequest(key="shared/b", include_value=True)
    answer = await served.call(OBJECTS + "GetObject", request, object_pb2.GetObjectResponse)
    assert not answer.found
    assert "shared/b" in answer.message


async def listed(
    served: GrpcNode, **fields: object
) -> tuple[list[str], object_pb2.ListObjectsResponse]:
    request = object_pb2.ListObjectsRequest(**fields)  # type: ignore[arg-type]
    page = await served.call(OBJECTS + "ListObjects", request, object_pb2.ListObjectsResponse)
    return [found.key for found in page.objects], page


async def test_objects_are_listed_in_pages(served: GrpcNode) -> None:
    for key in ("shared/a", "shared/b", "shared/c", "other/x"):
        await put(served, key)
    keys, page = await listed(served, prefix="shared/", limit=2)
    assert (keys, page.has_more) == (["shared/a", "shared/b"], True)
    keys, page = await listed(served, prefix="shared/", limit=2, start_after=page.next_start_after)
    assert (keys, page.has_more, page.next_start_after) == (["shared/c"], False, "")
    assert page.objects[0].value == b""
    with pytest.raises(grpc.aio.AioRpcError, match="limit is -1"):
        await listed(served, limit=-1)


async def test_a_listing_with_values_ends_where_the_answer_is_full(
    served: GrpcNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object, "_VALUES_BYTES_MAX", 10)
    for key, size in (("a", 20), ("b", 4), ("c", 4), ("d", 4)):
        await put(served, key, b"v" * size)
    found, after = [], ""
    pages = []
    while True:
        keys, page = await listed(served, include_values=True, start_after=after)
        assert all(len(entry.value) == entry.size for entry in page.objects)
        found += keys
        pages.append(len(keys))
        after = page.next_start_after
        assert page.has_more is bool(after)
        if not after:
            break
    assert found == ["a", "b", "c", "d"]
    assert pages == [1, 2, 1]


async def test_references_are_counted_and_the_last_one_takes_the_object(
    served: GrpcNode,
) -> None:
    await put(served, "a")
    add = object_pb2.AddObjectRefRequest(key="a")
    added = await served.call(OBJECTS + "AddObjectRef", add, object_pb2.AddObjectRefResponse)
    assert (added.success, added.new_ref_count) == (True, 1)
    add = object_pb2.AddObjectRefRequest(key="a", count=2)
    added = await served.call(OBJECTS + "AddObjectRef", add, object_pb2.AddObjectRefResponse)
    assert added.new_ref_count == 3
    for count, left, deleted in ((2, 1, False), (0, 0, True)):
        take = object_pb2.RemoveObjectRefRequest(key="a", count=count)
        taken = await served.call(
            OBJECTS + "RemoveObjectRef", take, object_pb2.RemoveObjectRefResponse
        )
        assert (taken.success, taken.new_ref_count, taken.deleted) == (True, left, deleted)
    taken = await served.call(OBJECTS + "RemoveObjectRef", take, object_pb2.RemoveObjectRefResponse)
    assert (taken.success, taken.deleted) == (False, False)
    add = object_pb2.AddObjectRefRequest(key="a", count=-1)
    with pytest.raises(grpc.aio.AioRpcError, match="count is -1"):
        await served.call(OBJECTS + "AddObjectRef", add, object_pb2.AddObjectRefResponse)


async def test_a_pinned_object_is_deleted_only_by_force(served: GrpcNode) -> None:
    await put(served, "a")
    pin = object_pb2.PinObjectRequest(key="a")
    assert (await served.call(OBJECTS + "PinObject", pin, object_pb2.PinObjectResponse)).success
    for force, success in ((False, False), (True, True), (True, False)):
        request = object_pb2.DeleteObjectRequest(key="a", force=force)
        answer = await served.call(
            OBJECTS + "DeleteObject", request, object_pb2.DeleteObjectResponse
        )
        assert (answer.success, answer.deleted) == (success, success)
        assert success or answer.message
    assert not (await served.call(OBJECTS + "PinObject", pin, object_pb2.PinObjectResponse)).success
    unpin = object_pb2.UnpinObjectRequest(key="a")
    answer = await served.call(OBJECTS + "UnpinObject", unpin, object_pb2.UnpinObjectResponse)
    assert not answer.success


async def test_a_delete_of_another_version_is_a_conflict(served: GrpcNode) -> None:
    await put(served, "a")
    request = object_pb2.DeleteObjectRequest(key="a", if_version=9)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.call(OBJECTS + "DeleteObject", request, object_pb2.DeleteObjectResponse)
    assert caught.value.code() == grpc.StatusCode.ABORTED

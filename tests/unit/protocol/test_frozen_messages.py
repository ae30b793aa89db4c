"""Records and the messages of package `spearlet`."""

from __future__ import annotations

import pytest

from spear.errors import InvalidArgument
from spear.protocol.convert.frozen import (
    STATUS,
    execution_message,
    object_message,
    object_meta,
)
from spear.protocol.convert.frozen_call import (
    ANSWER,
    ASKED,
    TIMEOUT_MS_MAX,
    Asked,
    Payload,
    answer_of,
    invocation_of,
)
from spear.protocol.pb.spearlet import function_pb2 as pb
from spear.records.execution import NOTHING, STATUSES, Execution, ExecutionError, Invocation
from spear.records.objects import ObjectInfo
from spear.records.usage import Usage

# Every field of a record at a value of its own.
EXECUTION = Execution(
    id="e", task_id="t", task_name="greet", task_version=3, artifact="a", node_name="n",
    invocation_id="i", session_id="s", function="f", priority="high", idempotency_key="k",
    status="failed", cause="trap", durability="power", attempt=2, instance_id="x",
    created_ns=1_000_000_007, started_ns=2_000_000_008, finished_ns=3_999_999_999,
    exit_code=0, output_bytes=5, content_type="text/plain", output=b"hello", output_digest="d",
    error=ExecutionError(code="TRAP", message="unreachable"), metadata={"m": "1"},
    parent_id="p", root_id="r", depth=1, tree_usage=Usage(
        calls=2, prompt_tokens=3, completion_tokens=4, model_ns=5, cost_nano_usd=6
    ),
)  # fmt: skip


def ns(time: object) -> int:
    return time.seconds * 10**9 + time.nanos  # type: ignore[attr-defined]


def test_a_request_becomes_an_invocation_with_nothing_lost() -> None:
    request = pb.InvokeRequest(
        invocation_id="i", execution_id="e", task_id="t", function_name="f",
        input=pb.Payload(content_type="text/plain", data=b"in"), headers={"h": "1"},
        environment={"A": "b"}, timeout_ms=1500, session_id="s", mode=pb.EXECUTION_MODE_ASYNC,
        force_new_instance=True, metadata={"m": "2"}, args=["x", ""], idempotency_key="k",
        priority="low", parent_id="p", webhook="https://example.org/",
    )  # fmt: skip
    assert len(request.ListFields()) == len(pb.InvokeRequest.DESCRIPTOR.fields)
    asked = ASKED.decode(request.SerializeToString())
    assert (asked.task_id, asked.data, asked.mode) == ("t", b"in", pb.EXECUTION_MODE_ASYNC)
    assert invocation_of(asked) == Invocation(
        function="f", args=("x", ""), env={"A": "b"}, content_type="text/plain",
        timeout_ns=1_500_000_000, priority="low", idempotency_key="k", invocation_id="i",
        execution_id="e", session_id="s", parent_id="p", fresh_instance=True,
        metadata={"header.h": "1", "m": "2"}, webhook="https://example.org/",
    )  # fmt: skip


def test_an_empty_request_leaves_all_to_the_task() -> None:
    request = pb.InvokeRequest(
        task_id="t", input=pb.Payload(data=b"in"), mode=pb.EXECUTION_MODE_SYNC
    )
    assert invocation_of(ASKED.decode(request.SerializeToString())) is NOTHING
    assert invocation_of(Asked(input=Payload(content_type="text/plain"))) is not NOTHING


def test_a_timeout_beyond_all_clocks_is_refused() -> None:
    request = Asked(timeout_ms=TIMEOUT_MS_MAX)
    assert invocation_of(request).timeout_ns == TIMEOUT_MS_MAX * 1_000_000 < 1 << 63
    request.timeout_ms += 1
    with pytest.raises(InvalidArgument, match="timeout_ms is"):
        invocation_of(request)


def test_a_record_becomes_an_answer_and_a_message() -> None:
    for made in (ANSWER.message(answer_of(EXECUTION)), execution_message(EXECUTION)):
        assert len(made.ListFields()) == len(made.DESCRIPTOR.fields)
        assert (made.execution_id, made.invocation_id, made.instance_id) == ("e", "i", "x")
        assert (made.status, made.cause) == (pb.EXECUTION_STATUS_FAILED, "trap")
        assert made.output == pb.Payload(content_type="text/plain", data=b"hello")
        assert made.error == pb.Error(code="TRAP", message="unreachable")
        assert ns(made.started_at) == EXECUTION.started_ns
        assert ns(made.completed_at) == EXECUTION.finished_ns
        assert (made.durability, made.exit_code, made.attempt) == ("power", 0, 2)
        assert (made.output_digest, made.output_bytes) == ("d", 5)
    message = execution_message(EXECUTION)
    assert (message.task_id, message.task_name, message.task_version) == ("t", "greet", 3)
    assert (message.function_name, message.node_name, message.session_id) == ("f", "n", "s")
    assert (message.priority, message.idempotency_key) == ("high", "k")
    assert ns(message.created_at) == EXECUTION.created_ns
    assert dict(message.metadata) == {"m": "1"}
    assert (message.parent_id, message.root_id, message.model_calls) == ("p", "r", 2)
    assert (message.model_prompt_tokens, message.model_completion_tokens) == (3, 4)
    assert message.model_cost_nano_usd == 6


def test_what_was_not_reached_is_absent() -> None:
    for made in (
        ANSWER.message(answer_of(Execution(id="e"))),
        execution_message(Execution(id="e")),
    ):
        absent = ("started_at", "completed_at", "output", "error", "exit_code")
        assert not any(made.HasField(name) for name in absent)


def test_every_status_has_its_number() -> None:
    assert tuple(STATUS) == STATUSES
    assert list(STATUS.values()) == list(range(1, 7))


def test_objects_are_shown_whole() -> None:
    info = ObjectInfo(
        key="shared/a", size=2, version=1 << 41, created_ms=3, updated_ms=4, ref_count=5,
        pinned=True, metadata={"m": "1"}, durability="crash",
    )  # fmt: skip
    for made in (object_meta(info), object_message(info, b"ab")):
        assert len(made.ListFields()) == len(made.DESCRIPTOR.fields)
        assert (made.key, made.size, made.version, made.ref_count) == ("shared/a", 2, 1 << 41, 5)
        assert (made.created_at, made.updated_at, made.pinned) == (3, 4, True)
        assert (dict(made.metadata), made.durability) == ({"m": "1"}, "crash")
    assert object_message(info, b"ab").value == b"ab"

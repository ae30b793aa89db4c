"""Errors cross as statuses and come out as themselves."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from spear import errors
from spear.errors import SpearError
from spear.protocol import status
from spear.protocol.status import error_of, error_of_code, error_of_refusal, status_of

MADE = {
    errors.VersionConflict: lambda _: errors.VersionConflict(b"shared/a", 3, 5),
    errors.GuestTrap: lambda text: errors.GuestTrap(type("Outcome", (), {"message": text})()),
}


def make(kind: type[SpearError], text: str) -> SpearError:
    return MADE.get(kind, kind)(text)  # type: ignore[arg-type,operator]


@pytest.mark.parametrize("reason", status.CLASSES)
def test_every_error_comes_out_as_itself_with_its_sentence(reason: str) -> None:
    kind = status.CLASSES[reason]
    error = make(kind, "what was asked, what was found")
    sent = status_of(error)
    assert sent.code == status.CODES[kind.status]
    back = error_of(Status.FromString(sent.SerializeToString()))
    assert type(back) is kind
    assert str(back) == str(error)
    assert (back.status, back.retryable) == (error.status, error.retryable)


def test_every_error_of_the_tree_has_a_reason_of_its_own() -> None:
    kinds = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, SpearError)}
    assert set(status.CLASSES.values()) == kinds
    assert status.CLASSES["QUEUE_FULL"] is errors.QueueFull
    assert status.CLASSES["KV_FULL"] is errors.KvFull
    assert {kind.status for kind in kinds} <= set(status.CODES)


def test_the_codes_are_those_of_grpc() -> None:
    grpc = pytest.importorskip("grpc")
    assert {code.name: code.value[0] for code in grpc.StatusCode} == status.CODES


def test_programs_in_other_languages_find_reason_domain_and_delay() -> None:
    sent = status_of(errors.QueueFull("the queue is full", 1500))
    info, retry = ErrorInfo(), RetryInfo()
    assert sent.details[0].Unpack(info)
    assert sent.details[1].Unpack(retry)
    assert (info.reason, info.domain) == ("QUEUE_FULL", "spear")
    assert retry.retry_delay.ToMilliseconds() == 1500
    back = error_of(sent)
    assert isinstance(back, errors.QueueFull)
    assert back.retry_after_ms == 1500


def test_what_a_class_knows_beside_its_sentence_survives() -> None:
    busy = errors.ModelUnavailable("busy", code="rate_limit", backend="gpt", retry_after_ms=1500)
    model = error_of(status_of(busy))
    assert isinstance(model, errors.ModelUnavailable)
    assert (model.code, model.backend, model.retry_after_ms) == ("rate_limit", "gpt", 1500)
    limit = error_of(status_of(errors.ModuleLimit("too much", "limits.memory")))
    assert isinstance(limit, errors.ModuleLimit)
    assert limit.key == "limits.memory"
    for key in (b"shared/a", b"\xff\x00"):
        conflict = error_of(status_of(errors.VersionConflict(key, 0, 7)))
        assert isinstance(conflict, errors.VersionConflict)
        assert (conflict.key, conflict.expected, conflict.actual) == (key, 0, 7)


def test_what_is_not_of_our_tree_tells_nothing_of_itself() -> None:
    for error in (RuntimeError("secret"), OSError("secret"), AssertionError("secret")):
        sent = status_of(error)
        assert sent.code == status.CODES["INTERNAL"]
        assert b"secret" not in sent.SerializeToString()
        assert type(error_of(sent)) is SpearError
    assert status_of(asyncio.CancelledError("secret")).code == status.CODES["CANCELLED"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", errors.NotFound),
        ("RESOURCE_EXHAUSTED", errors.QueueFull),
        ("UNAVAILABLE", errors.Unreachable),
        ("CANCELLED", SpearError),
        ("UNIMPLEMENTED", errors.Unimplemented),
        ("FAILED_PRECONDITION", SpearError),
    ],
)
def test_a_status_of_another_server_is_an_error_by_its_code(
    code: str, kind: type[SpearError]
) -> None:
    for details in ([], [ErrorInfo(reason="NOT_FOUND", domain="example.org")],
                    [ErrorInfo(reason="OF_A_LATER_VERSION", domain="spear")]):  # fmt: skip
        sent = Status(code=status.CODES[code], message="so it is")
        for detail in details:
            sent.details.add().Pack(detail)
        back = error_of(sent)
        assert (type(back), str(back), back.status) == (kind, "so it is", code)


def test_a_refusal_is_an_error_by_its_reason_or_its_code() -> None:
    for code, reason, kind in (
        ("UNAUTHENTICATED", "", errors.Unauthenticated),
        ("RESOURCE_EXHAUSTED", "NODE_BUSY", errors.NodeBusy),
        ("RESOURCE_EXHAUSTED", "LATER_WORD", errors.QueueFull),
    ):
        back = error_of_refusal(status.CODES[code], reason, "so it is")
        assert (type(back), str(back)) == (kind, "so it is")


def test_a_long_sentence_is_cut_and_a_broken_one_escaped() -> None:
    assert len(status_of(errors.NotFound("x" * 100_000)).message) == status.MESSAGE_CHARS_MAX
    assert status_of(errors.NotFound("a\udc80")).message == "a\\udc80"


@given(st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_any_bytes_are_an_error(code: int, payload: bytes) -> None:
    assert isinstance(error_of_code(code, payload), SpearError)


@given(st.binary(max_size=40), st.sampled_from(["ErrorInfo", "RetryInfo"]))
def test_broken_details_are_no_details(value: bytes, name: str) -> None:
    detail = AnyMessage(type_url=f"type.googleapis.com/google.rpc.{name}", value=value)
    sent = Status(code=5, message="gone", details=[detail])
    assert isinstance(error_of(sent), SpearError)


@given(st.dictionaries(st.sampled_from(["key", "key_hex", "expected", "actual"]), st.text()))
def test_metadata_of_strangers_is_no_trouble(told: dict[str, str]) -> None:
    sent = Status(code=10, message="changed")
    sent.details.add().Pack(ErrorInfo(reason="VERSION_CONFLICT", domain="spear", metadata=told))
    assert error_of(sent).status == "ABORTED"

"""What a webhook is told and when it is tried again, one sentence a test."""

from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spear.errors import InvalidArgument
from spear.records.execution import Execution, ExecutionError
from spear.spearlet.webhooks.delivery import (
    ATTEMPTS_MAX,
    BACKOFF_MAX_NS,
    Delivery,
    check_url,
    headers_of,
    retry_after_ns,
    rows_for,
    try_again,
    verdict,
    wait_ns,
)

S = 10**9
FAILED = Execution(
    id="e1", task_name="t", status="failed", output=b"secret", output_bytes=6, finished_ns=7,
    error=ExecutionError(code="TRAP", message="unreachable"),
)  # fmt: skip


def test_the_body_is_the_record_without_its_output() -> None:
    ((key, value),) = rows_for(FAILED, "http://host/hook", "")
    delivery = msgspec.msgpack.decode(value, type=Delivery)
    assert key == delivery.key == b"webhook/e1"
    assert json.loads(delivery.body) == {
        "id": "e1", "task_name": "t", "status": "failed", "output_bytes": 6, "finished_ns": 7,
        "error": {"code": "TRAP", "message": "unreachable"},
    }  # fmt: skip
    assert FAILED.output == b"secret", "the record itself is as it was"


def test_each_url_has_a_row_and_the_same_one_has_one() -> None:
    rows = rows_for(FAILED, "http://a/", "http://b/", "http://a/")
    assert [key for key, _ in rows] == [b"webhook/e1", b"webhook/e1/1"]
    assert rows_for(FAILED, "", "") == []


def test_the_signature_is_that_of_the_body() -> None:
    headers = headers_of(Delivery(id="e1", url="http://a/", body=b"{}"), b"key")
    digest = hmac.new(b"key", b"{}", hashlib.sha256).hexdigest()
    assert headers["Spear-Signature"] == f"sha256={digest}"
    assert headers["Idempotency-Key"] == "e1"


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, "done"), (204, "done"), (301, "never"), (307, "never"), (400, "never"), (404, "never"),
     (408, "again"), (410, "never"), (425, "again"), (429, "again"), (500, "again"),
     (503, "again")],
)  # fmt: skip
def test_what_an_answer_means(status: int, answer: str) -> None:
    assert verdict(status) == answer


def test_a_delivery_is_tried_for_long_and_then_given_up() -> None:
    delivery: Delivery | None = Delivery(id="e1", url="http://a/", body=b"")
    bounds = []
    while (delivery := try_again(delivery, 0, (1 << 64) - 1)) is not None:
        bounds.append(delivery.next_ns // S)
    assert len(bounds) == ATTEMPTS_MAX - 1
    assert bounds[:4] == [5, 10, 20, 40]
    assert bounds[-1] == 3600


def test_the_receiver_may_ask_for_a_longer_wait_but_not_for_any() -> None:
    delivery = Delivery(id="e1", url="http://a/", body=b"")
    again = try_again(delivery, 100, 0, retry_after_ns("60"))
    assert again is not None
    assert again.next_ns == 100 + 60 * S
    assert retry_after_ns("999999999") == BACKOFF_MAX_NS


@settings(deadline=None)
@given(st.none() | st.text(max_size=20) | st.integers().map(str))
def test_any_retry_after_is_a_wait_within_bounds(header: str | None) -> None:
    assert 0 <= retry_after_ns(header) <= BACKOFF_MAX_NS


def test_a_clock_that_went_back_does_not_stop_deliveries() -> None:
    assert wait_ns(10**18, 0) == BACKOFF_MAX_NS
    assert wait_ns(0, 10**18) == 0


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8080/x?y", "127.0.0.1:8080"),
        ("https://Example.com", "example.com:https"),
        ("http://[::1]/", "::1:http"),
    ],
)  # fmt: skip
def test_urls_that_are_taken(url: str, host: str) -> None:
    assert check_url(url) == host


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a/", "file:///x", "http://", "http:///x", "http://u:p@a/", "http://a/\r\nX: y",
     "http://a b/", "http://a:99999/", "http://[::1", "http://ä/", "http://a/" + "x" * 2048],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="webhook"):
        check_url(url)


@settings(deadline=None)
@given(st.text(max_size=80) | st.text("htp:/[]@.%a0 ", max_size=30).map("http:".__add__))
def test_any_text_is_a_url_or_invalid_argument(url: str) -> None:
    with suppress(InvalidArgument):
        assert check_url(url)

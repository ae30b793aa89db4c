from __future__ import annotations

import json
from typing import Any

import pytest
from chat_stand_ins import USED, reply, tool_call

from spear.errors import ModelRefused
from spear.hostcalls.llm.chat import documents
from spear.hostcalls.llm.chat.documents import Metrics
from spear.hostcalls.llm.request import Reply


def of(body: Any) -> Reply:
    return Reply(body=body, backend="b", model="m", usage=USED)


def test_an_answer_keeps_its_body_and_names_who_gave_it() -> None:
    text = documents.success(of({"id": "1", "x": None}))
    assert text == b'{"id":"1","x":null,"_spear":{"backend":"b","model":"m"}}'


def test_a_body_cannot_say_who_gave_it() -> None:
    found = json.loads(documents.success(of({"_spear": {"backend": "other"}})))
    assert found == {"_spear": {"backend": "b", "model": "m"}}


@pytest.mark.parametrize("body", [None, 1, "x", [1, 2]])
def test_a_body_that_is_no_object_is_wrapped(body: Any) -> None:
    found = documents.success(of(body))
    assert json.loads(found) == {"_spear": {"backend": "b", "model": "m"}, "result": body}
    assert b'"backend":"b"' in found


def test_errors_have_a_code_only_where_there_is_one() -> None:
    assert documents.failure("a b") == b'{"error":{"message":"a b"}}'
    assert documents.failure("a", "c") == b'{"error":{"code":"c","message":"a"}}'
    error = ModelRefused("no", code="x")
    assert documents.failure_of(error) == b'{"error":{"code":"x","message":"no"}}'


def test_metrics_are_the_sum_of_what_the_backends_said() -> None:
    sums = Metrics()
    sums.add(reply())
    sums.add(of({"usage": {"prompt_tokens": 10, "completion_tokens": 1}}))
    assert sums.document(2_999_999) == (
        b'{"prompt_tokens":13,"completion_tokens":3,"total_tokens":16,"latency_ms":2,"iterations":2}'
    )


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "7"}, {"prompt_tokens": -7}, {}])
def test_a_backend_that_counts_nothing_sensible_is_counted_by_its_reply(usage: Any) -> None:
    sums = Metrics()
    sums.add(of({"usage": usage}))
    assert (sums.prompt, sums.completion, sums.total) == (3, 2, 5)


def test_counts_that_no_model_can_have_are_not_taken() -> None:
    sums, most = Metrics(), 10**4300 - 1  # as large as a number in JSON can be
    for _ in range(2):
        sums.add(of({"usage": {"prompt_tokens": most, "total_tokens": most}}))
    assert json.loads(sums.document(0))["total_tokens"] == 10


def test_long_text_goes_in_events_of_whole_characters() -> None:
    text = "é🙂" * 10_000
    events = [json.loads(event) for event in documents.delta_events(text)]
    assert len(events) > 1
    assert {event["type"] for event in events} == {"delta"}
    assert "".join(event["content"] for event in events) == text
    assert list(documents.delta_events("")) == []


def test_the_end_of_a_stream() -> None:
    call = tool_call("f")
    calls, end = documents.end_events(reply(None, calls=[call]))
    assert json.loads(calls) == {"type": "tool_calls", "tool_calls": [call]}
    assert end == (
        b'{"type":"end","finish_reason":"tool_calls","_spear":{"backend":"fake","model":"m"}}'
    )
    assert len(list(documents.end_events(reply()))) == 1


@pytest.mark.parametrize(
    "body", [None, [], {}, {"choices": None}, {"choices": []}, {"choices": [1]},
             {"choices": [{}]}, {"choices": [{"message": 1}]}],
)  # fmt: skip
def test_nothing_is_found_in_an_answer_without_it(body: Any) -> None:
    assert documents.message_of(body) == {}
    assert json.loads(next(iter(documents.end_events(of(body)))))["finish_reason"] is None

"""Plain fields at once: which records and messages are plain, and what their bytes are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from wire_messages import REFUSED, by_protobuf, disagreement, varint

from spear._core.protofields import Field, Fields
from spear.protocol.convert.execution import EXECUTION, INVOCATION, INVOKE, Invoke
from spear.protocol.convert.frozen_call import ANSWER, ASKED, Answer
from spear.protocol.convert.task import TASK
from spear.protocol.pb.spear.v1 import execution_pb2 as pb
from spear.records.execution import Execution, ExecutionError, Invocation
from spear.records.usage import Usage

FULL = Execution(
    id="one", task_name="gr\u00fc\u00df", task_version=2**32 - 1, mode="async", attempt=0,
    created_ns=2**63 - 1, started_ns=-1, fuel=2**63 - 1, exit_code=-(2**63), output=b"\0\xff",
    log_truncated=True, error=ExecutionError(code="EXIT", message="x"), usage=Usage(calls=1),
    tree_usage=Usage(), depth=7, detached=True,
)  # fmt: skip


def field(data: bytes, number: int, kind: int = 2) -> bytes:
    return varint(number << 3 | kind) + data


def text(number: int, data: bytes) -> bytes:
    return field(varint(len(data)) + data, number)


@pytest.mark.parametrize("made", [FULL, Execution(id=""), Execution(id="1", exit_code=0)])
def test_a_plain_record_is_written_and_read_as_protobuf_does(made: Execution) -> None:
    data = EXECUTION.fields.encode(made)
    assert data is not None
    assert by_protobuf(EXECUTION, data) == made
    assert EXECUTION.fields.decode(data) == made
    assert EXECUTION.fields.decode(EXECUTION.slow_message(made).SerializeToString()) == made


def test_what_is_at_its_default_is_not_sent() -> None:
    assert EXECUTION.fields.encode(Execution(id="")) == b""
    assert INVOKE.fields.encode(Invoke(task="")) == b"\x0a\x00"  # there, and empty


@pytest.mark.parametrize("size", [0, 1, 90, 127, 128, 16_383, 16_384, 3_000_000])
def test_records_within_a_record_may_have_any_size(size: int) -> None:
    made = Invoke(task="t", input=bytes(size), invocation=Invocation(function="f" * size))
    data = INVOKE.fields.encode(made)
    assert data is not None
    assert by_protobuf(INVOKE, data) == INVOKE.fields.decode(data) == made


@pytest.mark.parametrize(
    "made",
    [
        Execution(id="1", value=(1,)),
        Execution(id="1", metadata={"a": "b"}),
        Execution(id="1", timeout_ns=1 << 63),
        Execution(id="1", timeout_ns=-(1 << 63) - 1),
        Execution(id="1", task_version=1 << 32),
        Execution(id="1", task_version=-1),
        Execution(id="1", fuel=1 << 64),
        Execution(id="1", fuel=-1),
        Execution(id="\udc80"),
        Execution(id=b"1"),  # type: ignore[arg-type]
        Execution(id="1", output="text"),  # type: ignore[arg-type]
        Execution(id="1", detached=1),  # type: ignore[arg-type]
        Execution(id="1", depth=True),
        Execution(id="1", depth=1.0),  # type: ignore[arg-type]
        Execution(id="1", usage=Invocation()),  # type: ignore[arg-type]
        Execution(id="1", function=None),  # type: ignore[arg-type]
        Execution(id="1", error=ExecutionError(code="\udc80")),
        Invocation(),
    ],
    ids=str,
)
def test_a_record_that_is_not_plain_is_left_to_the_library(made: Any) -> None:
    assert EXECUTION.fields.encode(made) is None


PLAIN = b"\x0a\x01i"
STRANGE = {
    "a field that is not known": field(b"\0", 99, 0),
    "a field beyond all": field(b"\0", 2**20, 0),
    "field 0": b"\x00\x00",
    "a repeated field": text(30, b""),
    "a map": text(40, b""),
    "a field twice": b"\x0a\x01j",
    "a group": field(b"", 2, 3) + field(b"", 2, 4),
    "eight bytes": field(bytes(8), 20, 1),
    "text as a number": field(b"\x01", 1, 0),
    "a number as text": text(20, b"\x01"),
    "text that is none": text(2, b"\xff"),
    "a surrogate": text(2, b"\xed\xa0\x80"),
    "more than 32 bits": field(varint(2**32), 4, 0),
    "a bool of two": field(b"\x02", 44, 0),
    "a longer tag": varint(2 << 3 | 2, 2) + b"\x01a",
    "a longer length": field(varint(1, 5) + b"a", 2),
    "no value": field(b"", 2, 0),
    "a cut number": field(b"\x80", 20, 0),
    "a cut text": field(b"\x02a", 2),
    "a length beyond all": field(varint(2**64 - 1) + b"a", 2),
    "more than 64 bits": field(b"\xff" * 9 + b"\x02", 20, 0),
    "a number without end": field(b"\xff" * 11, 20, 0),
    "a strange field within": text(41, field(b"\0", 99, 0)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_message_that_is_not_plain_is_left_to_the_library(name: str) -> None:
    data = PLAIN + STRANGE[name]
    assert EXECUTION.fields.decode(data) is None
    assert disagreement(EXECUTION, data) == ""


def test_of_a_oneof_there_is_one() -> None:
    both = text(1, b"name") + text(2, b"\x0a\x01s\x12\x01d")
    assert INVOKE.fields.decode(both) is None
    assert by_protobuf(INVOKE, both).task is None


def test_what_a_record_must_have_is_zero_where_it_is_absent() -> None:
    assert EXECUTION.fields.decode(b"") == Execution(id="")
    assert TASK.fields.decode(b"") is None  # its spec is a record
    assert by_protobuf(TASK, b"") is REFUSED


def test_numbers_are_read_over_their_whole_range() -> None:
    for value in (0, 1, 127, 128, 2**31, 2**63 - 1, -1, -(2**63)):
        assert (
            EXECUTION.fields.decode(pb.Execution(cpu_ns=value).SerializeToString()).cpu_ns == value
        )  # type: ignore[union-attr]
    data = pb.Execution(fuel=2**64 - 1).SerializeToString()
    assert EXECUTION.fields.decode(data).fuel == 2**64 - 1  # type: ignore[union-attr]


def test_every_cut_of_a_message_is_read_as_protobuf_reads_it() -> None:
    data = EXECUTION.encode(FULL)
    for size in range(len(data)):
        assert disagreement(EXECUTION, data[:size]) == ""


def test_only_so_many_fields_are_read() -> None:
    class One(msgspec.Struct):
        a: int = 0

    def of(number: int) -> Field:
        return Field("a", number, "int64", False, 0, False, "", None)

    assert Fields(One, [of(127)]).decode(field(b"\x05", 127, 0)) == One(5)
    for fields in ([of(128)], [of(0)], [of(1)] * 65):
        with pytest.raises(ValueError, match="than are read"):
            Fields(One, fields)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        INVOCATION.fields.decode("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        INVOCATION.fields.encode(None)


def test_a_record_without_one_of_its_values_is_refused_as_by_its_attribute() -> None:
    fields = Fields(Loose, [Field("text", 1, "text", False, "", False, "", None)])
    record = Loose(text="a")
    assert fields.encode(record) == b"\x0a\x01a"
    record.text = "bc"
    assert fields.encode(record) == b"\x0a\x02bc"
    del record.text
    with pytest.raises(AttributeError, match="text"):
        fields.encode(record)


class Loose(msgspec.Struct):
    text: str = ""


@pytest.mark.parametrize("number", [-(2**31), -1, 0, 1, 2**31 - 1])
def test_a_number_of_32_bits_with_a_sign_is_written_and_read_as_protobuf_does(number: int) -> None:
    made = Answer(status=number, exit_code=number)
    data = ANSWER.fields.encode(made)
    assert data is not None
    assert by_protobuf(ANSWER, data) == ANSWER.fields.decode(data) == made


@pytest.mark.parametrize("number", [-(2**31) - 1, 2**31, 2**63])
def test_a_number_beyond_32_bits_is_left_to_the_library(number: int) -> None:
    assert ANSWER.fields.encode(Answer(exit_code=number)) is None
    data = field(varint(number & (1 << 64) - 1), 10, kind=0)  # a mode
    assert ASKED.fields.decode(data) is None
    assert ASKED.decode(data).mode == by_protobuf(ASKED, data).mode

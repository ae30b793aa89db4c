"""Plain fields against the protobuf library: records by way of either are the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from message_records import records
from property_examples import examples
from wire_messages import by_protobuf, disagreement

from spear.protocol.convert.execution import INVOKE
from tests.fuzz.fuzz_protofields import MIRRORS, fuzz


@pytest.mark.parametrize("mirror", MIRRORS, ids=lambda mirror: mirror.kind.__name__)
def test_a_record_by_way_of_its_bytes_is_the_same(mirror: Any) -> None:
    @settings(max_examples=examples(60), deadline=None)
    @given(records(mirror.type, mirror.kind.DESCRIPTOR))
    def same(made: Any) -> None:
        assume(mirror is not INVOKE or made.task is None or made.spec is None)  # a oneof
        data = mirror.encode(made)
        assert by_protobuf(mirror, data) == mirror.decode(data) == made
        assert mirror.decode(mirror.slow_message(made).SerializeToString()) == made

    same()


@given(st.sampled_from(MIRRORS), st.binary(max_size=40))
@settings(max_examples=examples(300), deadline=None)
def test_any_bytes_are_read_as_the_library_reads_them_or_left_to_it(
    mirror: Any, data: bytes
) -> None:
    assert disagreement(mirror, data) == ""


def test_strange_messages_are_read_as_the_library_reads_them() -> None:
    assert fuzz(3000, seed=1) > 500

"""What a client makes of the parts of a snapshot: whole objects, or an error."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake_node import FakeNode
from table_caller import TableCaller

from spear.client.line import Line
from spear.client.objects import ObjectCalls, _Values
from spear.errors import InvalidArgument, SpearError
from spear.protocol.pb.spear.v1 import object_pb2 as pb
from spear.records.node import Node
from spear.records.objects import ObjectInfo


def objects(*found: tuple[str, int, bytes]) -> pb.SnapshotObjectsResponse:
    """Key, size and the value that comes with the info, of each."""
    return pb.SnapshotObjectsResponse(
        objects=[
            pb.SnapshotObject(info=pb.ObjectInfo(key=key, size=size, version=1), value=value)
            for key, size, value in found
        ]
    )


def chunk(value: bytes) -> pb.SnapshotObjectsResponse:
    return pb.SnapshotObjectsResponse(chunk=value)


def read(*parts: pb.SnapshotObjectsResponse) -> list[tuple[str, bytes]]:
    values = _Values()
    found = [(info.key, value) for part in parts for info, value in values.read(part)]
    values.end()
    return found


def test_values_come_with_their_info_or_in_chunks_after_it() -> None:
    parts = (objects(("a", 1, b"1"), ("b", 0, b""), ("c", 4, b"2")), chunk(b"34"), chunk(b"5"))
    both = pb.SnapshotObjectsResponse(chunk=b"6", objects=objects(("e", 1, b"7")).objects)
    assert read(*parts, objects(("d", 1, b"")), both) == [
        ("a", b"1"), ("b", b""), ("c", b"2345"), ("d", b"6"), ("e", b"7"),
    ]  # fmt: skip
    assert read() == []


@pytest.mark.parametrize(
    "parts",
    [
        [objects(("a", 2, b"1"))],
        [objects(("a", 2, b"1"), ("b", 0, b""))],
        [objects(("a", 2, b"1")), chunk(b"23")],
        [objects(("a", 1, b"12"))],
        [chunk(b"1")],
        [objects(("a", 1, b"1")), chunk(b"2")],
        [pb.SnapshotObjectsResponse(objects=[pb.SnapshotObject(value=b"1")])],
    ],
    ids=["cut", "cut by the next", "chunk too long", "too long", "of nothing", "after all", "bare"],
)
def test_what_is_no_whole_object_is_an_error(parts: list[pb.SnapshotObjectsResponse]) -> None:
    with pytest.raises((SpearError, InvalidArgument)):
        read(*parts)


class Cutting(FakeNode):
    """Says more of its objects' size than they have."""

    async def snapshot_objects(self, prefix: str = "") -> AsyncIterator[tuple[ObjectInfo, bytes]]:
        yield ObjectInfo(key="whole", size=1, version=1), b"1"
        yield ObjectInfo(key="cut", size=2, version=2), b"1"


class Objects(ObjectCalls):
    def __init__(self, node: Node) -> None:
        async def dial() -> TableCaller:
            return TableCaller(node)

        self._line = Line(dial)


async def test_a_snapshot_that_ends_within_a_value_is_an_error() -> None:
    found = Objects(Cutting()).snapshot_objects()
    assert (await anext(found))[0].key == "whole"
    with pytest.raises(SpearError, match="1 bytes of object 'cut', not all"):
        await anext(found)

"""`spear.v1.ObjectService`: objects of any size, versions and transactions.

The rule: a conflict is a status of the call here, never an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from spear.errors import InvalidArgument
from spear.protocol.convert.object import (
    GET_OBJECT,
    OBJECT_CHANGE,
    OBJECT_HEAD,
    OBJECT_INFO,
    READ_OBJECT,
    SNAPSHOT_OBJECT,
    STAT_OBJECT,
    WRITE_OBJECT,
    ObjectHead,
    ObjectKey,
    ReadObject,
    SnapshotObject,
    WriteObject,
)
from spear.protocol.pb.spear.v1 import object_pb2 as pb
from spear.records.node import Node
from spear.records.objects import ObjectInfo
from spear.spearlet.rpc.chunks import CHUNK_BYTES, cut, head_of, rest_of, whole
from spear.spearlet.rpc.method import (
    Method,
    client_stream,
    closing,
    recorded,
    server_stream,
    service,
    unary,
)

_LIMIT = 1000
SMALL_BYTES_MAX = 1 << 20  # of a value that goes in one message


class Putting:
    """Put, which gathers a value of `bytes_max` at most."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max

    async def put(self, node: Node, requests: AsyncIterator[pb.PutObjectRequest]) -> pb.ObjectInfo:
        head = (await head_of(requests)).head
        value = await whole(rest_of(requests), f"object {head.key!r}", self._bytes_max)
        return OBJECT_INFO.message(await _put(node, OBJECT_HEAD.record(head), value))


async def write(node: Node, request: WriteObject) -> ObjectInfo:
    head = request.head or ObjectHead()
    if len(request.value) > SMALL_BYTES_MAX:
        raise InvalidArgument(
            f"object {head.key!r} has {len(request.value)} bytes, Write takes up to "
            f"{SMALL_BYTES_MAX}: send it by Put"
        )
    return await _put(node, head, request.value)


async def _put(node: Node, head: ObjectHead, value: bytes) -> ObjectInfo:
    return await node.put_object(
        head.key,
        value,
        metadata=head.metadata,
        overwrite=head.overwrite,
        if_version=head.if_version,
        durable=head.durable,
    )


async def read(node: Node, request: ObjectKey) -> ReadObject:
    info, value = await node.get_object(request.key)
    return ReadObject(info=info, value=value if len(value) <= SMALL_BYTES_MAX else b"")


async def get(node: Node, request: pb.GetObjectRequest) -> AsyncIterator[pb.GetObjectResponse]:
    info, value = await node.get_object(request.key)
    yield pb.GetObjectResponse(info=OBJECT_INFO.message(info))
    for part in cut(value):
        yield pb.GetObjectResponse(chunk=part)


async def stat(node: Node, request: ObjectKey) -> ObjectInfo:
    return await node.stat_object(request.key)


async def list_(node: Node, request: pb.ListObjectsRequest) -> pb.ListObjectsResponse:
    page = await node.list_objects(
        request.prefix, limit=request.limit or _LIMIT, start_after=request.start_after
    )
    return pb.ListObjectsResponse(
        objects=OBJECT_INFO.messages(page.objects), next_start_after=page.next_start_after
    )


async def delete(node: Node, request: pb.DeleteObjectRequest) -> pb.DeleteObjectResponse:
    version = request.if_version if request.HasField("if_version") else None
    await node.delete_object(request.key, force=request.force, if_version=version)
    return pb.DeleteObjectResponse()


def _version(request: pb.ObjectRefRequest | pb.ObjectPinRequest) -> int | None:
    return request.if_version if request.HasField("if_version") else None


async def add_ref(node: Node, request: pb.ObjectRefRequest) -> pb.ObjectRefResponse:
    count = await node.add_object_ref(request.key, request.count, if_version=_version(request))
    return pb.ObjectRefResponse(ref_count=count)


async def remove_ref(node: Node, request: pb.ObjectRefRequest) -> pb.ObjectRefResponse:
    left, deleted = await node.remove_object_ref(
        request.key, request.count, if_version=_version(request)
    )
    return pb.ObjectRefResponse(ref_count=left, deleted=deleted)


async def pin(node: Node, request: pb.ObjectPinRequest) -> pb.ObjectPinResponse:
    await node.pin_object(request.key, if_version=_version(request))
    return pb.ObjectPinResponse()


async def unpin(node: Node, request: pb.ObjectPinRequest) -> pb.ObjectPinResponse:
    await node.unpin_object(request.key, if_version=_version(request))
    return pb.ObjectPinResponse()


async def watch(node: Node, request: pb.WatchObjectsRequest) -> AsyncIterator[pb.ObjectChange]:
    changes = node.watch_objects(request.prefix, existing=request.existing)
    async with closing(changes) as found:
        async for change in found:
            yield OBJECT_CHANGE.message(change)


async def snapshot(
    node: Node, request: pb.SnapshotObjectsRequest
) -> AsyncIterator[pb.SnapshotObjectsResponse]:
    """Small objects share a message of about CHUNK_BYTES; a larger value follows its info."""
    objects: list[pb.SnapshotObject] = []
    size = 0
    async with closing(node.snapshot_objects(request.prefix)) as found:
        async for info, value in found:
            chunks = cut(value) if len(value) > CHUNK_BYTES else []
            record = SnapshotObject(info=info, value=b"" if chunks else value)
            objects.append(SNAPSHOT_OBJECT.message(record))
            size += objects[-1].ByteSize()
            if size >= CHUNK_BYTES or chunks:
                yield pb.SnapshotObjectsResponse(objects=objects)
                objects, size = [], 0
            for chunk in chunks:
                yield pb.SnapshotObjectsResponse(chunk=chunk)
    if objects:
        yield pb.SnapshotObjectsResponse(objects=objects)


async def transact(node: Node, request: pb.TransactRequest) -> pb.TransactResponse:
    writes = {
        key: write.value if write.HasField("value") else None
        for key, write in request.writes.items()
    }
    return pb.TransactResponse(versions=await node.transact(dict(request.reads), writes))


def methods(object_bytes_max: int) -> dict[str, Method]:
    put = Putting(object_bytes_max).put
    return service(
        "spear.v1.ObjectService",
        {
            "Put": client_stream(pb.PutObjectRequest, pb.ObjectInfo, put),
            "Get": server_stream(pb.GetObjectRequest, pb.GetObjectResponse, get),
            "Write": recorded(WRITE_OBJECT, OBJECT_INFO, write),
            "Read": recorded(GET_OBJECT, READ_OBJECT, read),
            "Stat": recorded(STAT_OBJECT, OBJECT_INFO, stat),
            "List": unary(pb.ListObjectsRequest, pb.ListObjectsResponse, list_),
            "Delete": unary(pb.DeleteObjectRequest, pb.DeleteObjectResponse, delete),
            "AddRef": unary(pb.ObjectRefRequest, pb.ObjectRefResponse, add_ref),
            "RemoveRef": unary(pb.ObjectRefRequest, pb.ObjectRefResponse, remove_ref),
            "Pin": unary(pb.ObjectPinRequest, pb.ObjectPinResponse, pin),
            "Unpin": unary(pb.ObjectPinRequest, pb.ObjectPinResponse, unpin),
            "Watch": server_stream(pb.WatchObjectsRequest, pb.ObjectChange, watch),
            "Snapshot": server_stream(
                pb.SnapshotObjectsRequest, pb.SnapshotObjectsResponse, snapshot
            ),
            "Transact": unary(pb.TransactRequest, pb.TransactResponse, transact),
        },
    )

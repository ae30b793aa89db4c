"""`spearlet.ObjectService`: objects for callers of the frozen package.

The rule: what its messages can say (`success`, `found`, `deleted`) is an answer: no such object, it
is there already, it is in use. Everything else is the call's status, version conflicts included.
"""

from __future__ import annotations

from spear.errors import InvalidArgument, SpearError
from spear.protocol.convert.frozen import object_message, object_meta
from spear.protocol.pb.spearlet import object_pb2 as pb
from spear.records.node import Node
from spear.records.objects import ObjectInfo
from spear.spearlet.rpc.method import service, unary

_LIMIT = 1000
_VALUES_BYTES_MAX = 3 << 20  # of one listing: an answer has room for 4 MiB
_TOLD = ("NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION")


_Versioned = (
    pb.AddObjectRefRequest | pb.RemoveObjectRefRequest | pb.PinObjectRequest
    | pb.UnpinObjectRequest | pb.DeleteObjectRequest
)  # fmt: skip


def _told(error: SpearError, *more: str) -> str:
    """The sentence of an error that is an answer; raises any other."""
    if error.status not in (*_TOLD, *more):
        raise error
    return str(error)


async def put(node: Node, request: pb.PutObjectRequest) -> pb.PutObjectResponse:
    versioned = request.HasField("if_version")
    try:
        info = await node.put_object(
            request.key,
            request.value,
            metadata=dict(request.metadata),
            overwrite=request.overwrite or versioned,
            if_version=request.if_version if versioned else None,
            durable=request.durable,
        )
    except SpearError as error:
        # Without a version asked for, a conflict says that the object is there already.
        said = _told(error, *([] if versioned else ["ABORTED"]))
        return pb.PutObjectResponse(success=False, message=said)
    return pb.PutObjectResponse(success=True, object_meta=object_meta(info))


async def get(node: Node, request: pb.GetObjectRequest) -> pb.GetObjectResponse:
    try:
        info, value = await _read(node, request.key, request.include_value)
    except SpearError as error:
        return pb.GetObjectResponse(found=False, message=_told(error))
    return pb.GetObjectResponse(found=True, object=object_message(info, value))


async def _read(node: Node, key: str, include_value: bool) -> tuple[ObjectInfo, bytes]:
    if include_value:
        return await node.get_object(key)
    return await node.stat_object(key), b""


async def list_(node: Node, request: pb.ListObjectsRequest) -> pb.ListObjectsResponse:
    """With values it lists as many as fit an answer, and one at least."""
    if request.limit < 0:
        raise InvalidArgument(f"limit is {request.limit}: expected 1 or more, or 0 for {_LIMIT}")
    page = await node.list_objects(
        request.prefix, limit=request.limit or _LIMIT, start_after=request.start_after
    )
    if not request.include_values:
        return pb.ListObjectsResponse(
            objects=[object_message(info) for info in page.objects],
            has_more=bool(page.next_start_after),
            next_start_after=page.next_start_after,
        )
    response, room = pb.ListObjectsResponse(), _VALUES_BYTES_MAX
    for listed in page.objects:
        try:
            info, value = await node.get_object(listed.key)
        except SpearError as error:
            _told(error)  # it went meanwhile
            continue
        if response.objects and len(value) > room:
            response.has_more, response.next_start_after = True, response.objects[-1].key
            return response
        response.objects.append(object_message(info, value))
        room -= len(value)
    response.has_more = bool(page.next_start_after)
    response.next_start_after = page.next_start_after
    return response


async def add_ref(node: Node, request: pb.AddObjectRefRequest) -> pb.AddObjectRefResponse:
    try:
        count = await node.add_object_ref(
            request.key, _count(request.count), if_version=_version(request)
        )
    except SpearError as error:
        return pb.AddObjectRefResponse(success=False, message=_told(error))
    return pb.AddObjectRefResponse(success=True, new_ref_count=count)


async def remove_ref(node: Node, request: pb.RemoveObjectRefRequest) -> pb.RemoveObjectRefResponse:
    try:
        count, deleted = await node.remove_object_ref(
            request.key, _count(request.count), if_version=_version(request)
        )
    except SpearError as error:
        return pb.RemoveObjectRefResponse(success=False, message=_told(error))
    return pb.RemoveObjectRefResponse(success=True, new_ref_count=count, deleted=deleted)


def _version(request: _Versioned) -> int | None:
    return request.if_version if request.HasField("if_version") else None


def _count(count: int) -> int:
    """Clients leave out what is one."""
    if count < 0:
        raise InvalidArgument(f"count is {count}: expected 1 or more")
    return count or 1


async def pin(node: Node, request: pb.PinObjectRequest) -> pb.PinObjectResponse:
    try:
        await node.pin_object(request.key, if_version=_version(request))
    except SpearError as error:
        return pb.PinObjectResponse(success=False, message=_told(error))
    return pb.PinObjectResponse(success=True)


async def unpin(node: Node, request: pb.UnpinObjectRequest) -> pb.UnpinObjectResponse:
    try:
        await node.unpin_object(request.key, if_version=_version(request))
    except SpearError as error:
        return pb.UnpinObjectResponse(success=False, message=_told(error))
    return pb.UnpinObjectResponse(success=True)


async def delete(node: Node, request: pb.DeleteObjectRequest) -> pb.DeleteObjectResponse:
    try:
        await node.delete_object(request.key, force=request.force, if_version=_version(request))
    except SpearError as error:
        return pb.DeleteObjectResponse(success=False, message=_told(error))
    return pb.DeleteObjectResponse(success=True, deleted=True)


METHODS = service(
    "spearlet.ObjectService",
    {
        "PutObject": unary(pb.PutObjectRequest, pb.PutObjectResponse, put),
        "GetObject": unary(pb.GetObjectRequest, pb.GetObjectResponse, get),
        "ListObjects": unary(pb.ListObjectsRequest, pb.ListObjectsResponse, list_),
        "AddObjectRef": unary(pb.AddObjectRefRequest, pb.AddObjectRefResponse, add_ref),
        "RemoveObjectRef": unary(pb.RemoveObjectRefRequest, pb.RemoveObjectRefResponse, remove_ref),
        "PinObject": unary(pb.PinObjectRequest, pb.PinObjectResponse, pin),
        "UnpinObject": unary(pb.UnpinObjectRequest, pb.UnpinObjectResponse, unpin),
        "DeleteObject": unary(pb.DeleteObjectRequest, pb.DeleteObjectResponse, delete),
    },
)

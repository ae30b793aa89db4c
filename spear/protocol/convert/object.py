"""Objects as messages, and the requests and answers of the common calls for them.

The rule: the records here are shapes of messages only; what is public of objects is in
`spear.records.objects`.
"""

from __future__ import annotations

import msgspec

from spear.protocol.convert.mirror import MAP, Mirror, One
from spear.protocol.pb.spear.v1 import object_pb2 as pb
from spear.records.objects import ObjectChange, ObjectInfo


class ObjectHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a value is put under, and on which conditions."""

    key: str = ""
    metadata: dict[str, str] = {}
    overwrite: bool = True
    if_version: int | None = None
    durable: bool = False


class WriteObject(msgspec.Struct, frozen=True, kw_only=True):
    """The request of Write."""

    head: ObjectHead | None = None
    value: bytes = b""


class ObjectKey(msgspec.Struct, frozen=True, kw_only=True):
    """The request of Read, Get and Stat."""

    key: str = ""


class SnapshotObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a snapshot; the rest of a `value` that is not whole follows in chunks."""

    info: ObjectInfo
    value: bytes = b""


class ReadObject(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of Read; `value` is empty where it is too large for one message."""

    info: ObjectInfo
    value: bytes = b""


OBJECT_INFO = Mirror(ObjectInfo, pb.ObjectInfo, {"metadata": MAP})
OBJECT_CHANGE = Mirror(ObjectChange, pb.ObjectChange, {"info": One(OBJECT_INFO)})
OBJECT_HEAD = Mirror(ObjectHead, pb.ObjectHead, {"metadata": MAP})
WRITE_OBJECT = Mirror(WriteObject, pb.WriteObjectRequest, {"head": One(OBJECT_HEAD)})
READ_OBJECT = Mirror(ReadObject, pb.ReadObjectResponse, {"info": One(OBJECT_INFO)})
SNAPSHOT_OBJECT = Mirror(SnapshotObject, pb.SnapshotObject, {"info": One(OBJECT_INFO)})
GET_OBJECT = Mirror(ObjectKey, pb.GetObjectRequest)
STAT_OBJECT = Mirror(ObjectKey, pb.StatObjectRequest)

"""Objects, over a line.

The rule: what counts (versions, references) is not done twice by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Final

from spear.client.artifacts import chunks
from spear.client.line import Line
from spear.errors import SpearError
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
    WriteObject,
)
from spear.protocol.pb.spear.v1 import object_pb2 as pb
from spear.records.objects import ObjectChange, ObjectInfo, ObjectPage

_SERVICE: Final = "/spear.v1.ObjectService"
_WRITE: Final = f"{_SERVICE}/Write"
_READ: Final = f"{_SERVICE}/Read"
_STAT: Final = f"{_SERVICE}/Stat"
_SMALL_BYTES_MAX: Final = 1 << 20  # of a value that goes in one message


class ObjectCalls:
    _line: Line

    async def put_object(
        self, key: str, value: bytes, *, metadata: Mapping[str, str] | None = None,
        overwrite: bool = True, if_version: int | None = None, durable: bool = False,
    ) -> ObjectInfo:  # fmt: skip
        head = ObjectHead(
            key=key, metadata=dict(metadata or {}), overwrite=overwrite, if_version=if_version,
            durable=durable,
        )  # fmt: skip
        if len(value) <= _SMALL_BYTES_MAX:
            return await self._line.ask_record(
                _WRITE, WriteObject(head=head, value=value), (WRITE_OBJECT, OBJECT_INFO),
                again=False,
            )  # fmt: skip

        async def requests() -> AsyncGenerator[pb.PutObjectRequest, None]:
            yield pb.PutObjectRequest(head=OBJECT_HEAD.message(head))
            async for chunk in chunks(value):
                yield pb.PutObjectRequest(chunk=chunk)

        found = await self._line.send(f"{_SERVICE}/Put", requests, pb.ObjectInfo, again=False)
        return OBJECT_INFO.record(found)

    async def get_object(self, key: str) -> tuple[ObjectInfo, bytes]:
        request = ObjectKey(key=key)
        found = await self._line.ask_record(_READ, request, (GET_OBJECT, READ_OBJECT))
        if len(found.value) == found.info.size:
            return found.info, found.value
        return await self._get_large(key)

    async def _get_large(self, key: str) -> tuple[ObjectInfo, bytes]:
        request = pb.GetObjectRequest(key=key)
        info: ObjectInfo | None = None
        value = bytearray()
        async for part in self._line.receive(f"{_SERVICE}/Get", request, pb.GetObjectResponse):
            if part.WhichOneof("part") == "info":
                info = OBJECT_INFO.record(part.info)
            else:
                value += part.chunk
        if info is None or info.size != len(value):
            raise _cut(key, len(value))
        return info, bytes(value)

    async def stat_object(self, key: str) -> ObjectInfo:
        request = ObjectKey(key=key)
        return await self._line.ask_record(_STAT, request, (STAT_OBJECT, OBJECT_INFO))

    async def list_objects(
        self, prefix: str = "", *, limit: int = 1000, start_after: str = ""
    ) -> ObjectPage:
        request = pb.ListObjectsRequest(prefix=prefix, limit=limit, start_after=start_after)
        page = await self._line.ask(f"{_SERVICE}/List", request, pb.ListObjectsResponse)
        return ObjectPage(OBJECT_INFO.records(page.objects), page.next_start_after)

    async def delete_object(
        self, key: str, *, force: bool = False, if_version: int | None = None
    ) -> None:
        request = pb.DeleteObjectRequest(key=key, force=force, if_version=if_version)
        await self._line.ask(f"{_SERVICE}/Delete", request, pb.DeleteObjectResponse, again=False)

    async def add_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> int:
        return (await self._refs("AddRef", key, count, if_version)).ref_count

    async def remove_object_ref(
        self, key: str, count: int = 1, *, if_version: int | None = None
    ) -> tuple[int, bool]:
        found = await self._refs("RemoveRef", key, count, if_version)
        return found.ref_count, found.deleted

    async def _refs(
        self, method: str, key: str, count: int, if_version: int | None
    ) -> pb.ObjectRefResponse:
        request = pb.ObjectRefRequest(key=key, count=count, if_version=if_version)
        path = f"{_SERVICE}/{method}"
        return await self._line.ask(path, request, pb.ObjectRefResponse, again=False)

    async def pin_object(self, key: str, *, if_version: int | None = None) -> None:
        request = pb.ObjectPinRequest(key=key, if_version=if_version)
        await self._line.ask(f"{_SERVICE}/Pin", request, pb.ObjectPinResponse)

    async def unpin_object(self, key: str, *, if_version: int | None = None) -> None:
        request = pb.ObjectPinRequest(key=key, if_version=if_version)
        await self._line.ask(f"{_SERVICE}/Unpin", request, pb.ObjectPinResponse)

    async def watch_objects(
        self, prefix: str = "", *, existing: bool = False
    ) -> AsyncGenerator[ObjectChange, None]:
        request = pb.WatchObjectsRequest(prefix=prefix, existing=existing)
        changes = self._line.receive(f"{_SERVICE}/Watch", request, pb.ObjectChange)
        async with aclosing(changes) as found:
            async for change in found:
                yield OBJECT_CHANGE.record(change)

    async def snapshot_objects(
        self, prefix: str = ""
    ) -> AsyncGenerator[tuple[ObjectInfo, bytes], None]:
        request = pb.SnapshotObjectsRequest(prefix=prefix)
        path = f"{_SERVICE}/Snapshot"
        values = _Values()
        parts = self._line.receive(path, request, pb.SnapshotObjectsResponse)
        async with aclosing(parts) as found:
            async for part in found:
                for read in values.read(part):
                    yield read
        values.end()

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        request = pb.TransactRequest(
            reads=reads, writes={key: pb.ObjectWrite(value=value) for key, value in writes.items()}
        )
        path = f"{_SERVICE}/Transact"
        found = await self._line.ask(path, request, pb.TransactResponse, again=False)
        return dict(found.versions)


class _Values:
    """The objects of a snapshot, from the parts they come in; of one at a time as much as its info
    says."""

    def __init__(self) -> None:
        self._info: ObjectInfo | None = None
        self._value = bytearray()

    def read(self, part: pb.SnapshotObjectsResponse) -> Iterator[tuple[ObjectInfo, bytes]]:
        """Those whose value is whole with this part. Raises SpearError."""
        if part.chunk:
            yield from self._more(part.chunk)
        for one in SNAPSHOT_OBJECT.records(part.objects):
            self.end()
            self._info, self._value = one.info, bytearray()
            yield from self._more(one.value)

    def _more(self, piece: bytes) -> Iterator[tuple[ObjectInfo, bytes]]:
        self._value += piece
        info = self._info
        if info is None or len(self._value) > info.size:
            raise SpearError("the node sent more of an object than its size")
        if len(self._value) == info.size:
            self._info = None
            yield info, bytes(self._value)

    def end(self) -> None:
        """Raises SpearError where a value is not whole."""
        if self._info is not None:
            raise _cut(self._info.key, len(self._value))


def _cut(key: str, size: int) -> SpearError:
    return SpearError(f"the node sent {size} bytes of object {key!r}, not all of it")

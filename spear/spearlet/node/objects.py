"""The node's objects for callers outside: text keys, OCC, and those that outlive the process.

The rule: the table in memory is the truth while the node runs. An object put durably is also a
row, written before the answer; at start those rows are put into the table again, under versions of
the new epoch, so that a version read before a restart never matches.
"""

from __future__ import annotations

from collections.abc import Mapping

from spear.errors import AlreadyExists, InvalidArgument, ObjectNotFound
from spear.records.objects import ObjectInfo, ObjectPage
from spear.spearlet.node import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.objstore import ObjectStat, ObjectStore
    from spear.kv.interface import LocalKv
    from spear.spearlet.node.blobs import Blobs
    from spear.spearlet.node.journal import Journal

_INLINE_BYTES_MAX = 65536


class NodeObjects:
    """Of one node, on its loop. `value_bytes_max` bounds one object."""

    def __init__(
        self, store: ObjectStore, journal: Journal, blobs: Blobs, kv: LocalKv, value_bytes_max: int
    ) -> None:
        self._store, self._journal, self._blobs = store, journal, blobs
        self._kv, self._value_bytes_max = kv, value_bytes_max
        self._durable: dict[bytes, str] = {}  # key -> the digest of its file, "" if in the row

    async def load(self) -> None:
        """Puts back what is kept; once, at start."""
        after = b""
        while page := self._kv.scan(rows.OBJECTS, after=after, limit=100):
            for key, value in page:
                await self._restore(key.removeprefix(rows.OBJECTS), rows.decode_object(value))
            after = page[-1][0]

    async def put(
        self, key: str, value: bytes, metadata: Mapping[str, str] | None, overwrite: bool,
        if_version: int | None, durable: bool,
    ) -> ObjectInfo:  # fmt: skip
        """Raises AlreadyExists, VersionConflict, StoreFull, InvalidArgument, KvFull."""
        found = key_of(key)
        if len(value) > self._value_bytes_max:
            raise InvalidArgument(
                f"the value has {len(value)} bytes, storage.max_object_size is "
                f"{self._value_bytes_max}"
            )
        if not overwrite:
            if if_version not in (None, 0):
                raise InvalidArgument("overwrite=false and if_version contradict each other")
            if self._has(found):
                raise AlreadyExists(f"object {key!r} exists, and overwrite was not asked for")
            if_version = 0
        self._store.put(found, value, if_version=if_version, metadata=metadata)
        if durable:
            await self._keep(found, value, metadata)
        elif found in self._durable:  # the kept value is no longer the object's
            await self._unkeep(found)
        return await self.stat(key)

    async def get(self, key: str) -> tuple[ObjectInfo, bytes]:
        """Raises ObjectNotFound."""
        info = await self.stat(key)
        return info, bytes(self._store.get(key_of(key)))

    async def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound."""
        found = key_of(key)
        try:
            return self._info(self._store.stat(found))
        except ObjectNotFound:
            row = self._kv.get(rows.object_key(found)) if found in self._durable else None
            if row is None:
                raise
        await self._restore(found, rows.decode_object(row))  # it had to make room for others
        return self._info(self._store.stat(found))

    def list(self, prefix: str, limit: int, start_after: str) -> ObjectPage:
        found = self._store.list(
            prefix.encode(), limit + 1, start_after.encode() if start_after else None
        )
        objects = tuple(self._info(stat) for stat in found[:limit])
        return ObjectPage(objects, objects[-1].key if len(found) > limit else "")

    async def delete(self, key: str, force: bool, if_version: int | None) -> None:
        """Raises ObjectNotFound, ObjectInUse, VersionConflict."""
        found = key_of(key)
        self._store.delete(found, if_version=if_version, force=force)
        if found in self._durable:
            await self._unkeep(found)

    async def remove_ref(self, key: str, count: int) -> tuple[int, bool]:
        found = key_of(key)
        left = self._store.remove_ref(found, count)
        gone = not self._has(found)
        if gone and found in self._durable:
            await self._unkeep(found)
        return left, gone

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        """Raises VersionConflict; then nothing was written."""
        from spear._core.objstore import DELETE

        versions = self._store.transact(
            {key_of(key): version for key, version in reads.items()},
            {key_of(key): DELETE if value is None else value for key, value in writes.items()},
        )
        for key in writes:
            if key_of(key) in self._durable:
                await self._unkeep(key_of(key))
        return {key.decode(): version for key, version in versions.items()}

    @property
    def table(self) -> ObjectStore:
        return self._store

    def needs(self, digest: str) -> bool:
        """Whether a file of this digest holds the value of a durable object."""
        return digest in self._durable.values()

    def _has(self, key: bytes) -> bool:
        try:
            self._store.stat(key)
        except ObjectNotFound:
            return False
        return True

    def _info(self, stat: ObjectStat) -> ObjectInfo:
        durable = stat.key in self._durable
        return ObjectInfo(
            key=stat.key.decode("utf-8", "replace"),
            size=stat.size,
            version=stat.version,
            created_ms=stat.created_ms,
            updated_ms=stat.updated_ms,
            ref_count=stat.refs,
            pinned=stat.pinned,
            metadata=dict(stat.metadata or {}),
            durability=self._journal.class_of(power=True) if durable else "volatile",
        )

    async def _keep(self, key: bytes, value: bytes, metadata: Mapping[str, str] | None) -> None:
        row = rows.ObjectRow(metadata=dict(metadata or {}))
        if len(value) > _INLINE_BYTES_MAX:
            row.digest = await self._blobs.put(value, sync=True)
        else:
            row.value = value
        before = self._durable.get(key, "")
        self._durable[key] = row.digest
        try:
            self._journal.put(rows.object_key(key), rows.encode(row))
            await self._journal.kept()
        finally:
            if row.digest:
                self._blobs.let_go(row.digest)
        self._drop_file(before)

    async def _unkeep(self, key: bytes) -> None:
        before = self._durable.pop(key)
        self._journal.delete(rows.object_key(key))
        await self._journal.kept()
        self._drop_file(before)

    def _drop_file(self, digest: str) -> None:
        if digest and not self.needs(digest):
            self._blobs.delete(digest)

    async def _restore(self, key: bytes, row: rows.ObjectRow) -> None:
        value = await self._blobs.read(row.digest) if row.digest else row.value
        self._store.put(key, value, metadata=row.metadata)
        self._durable[key] = row.digest


def key_of(key: str) -> bytes:
    """The key as the table has it. Raises InvalidArgument."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{key!r} is no key: it cannot be written as UTF-8") from None

"""The node's objects for callers outside: text keys, OCC, and those that outlive the process.

The rule: the table in memory is the truth while the node runs. An object put durably is also a
row, written before the answer; at start those rows are put into the table again, under versions of
the new epoch, so that a version read before a restart never matches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from spear.errors import AlreadyExists, InvalidArgument, ObjectNotFound, SpearError
from spear.records.objects import ObjectInfo, ObjectPage
from spear.spearlet.node import rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
        self._keeping: dict[bytes, rows.ObjectRow] = {}  # whose files are being written

    async def load(self) -> None:
        """Puts back what is kept; once, at start."""
        after = b""
        while page := self._kv.scan(rows.OBJECTS, after=after, limit=100):
            for key, value in page:
                await self._load(key.removeprefix(rows.OBJECTS), rows.decode_object(value))
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
            if found in self._durable or self._has(found):
                raise AlreadyExists(f"object {key!r} exists, and overwrite was not asked for")
            if_version = 0
        self._store.put(found, value, if_version=if_version, metadata=metadata)
        info = self._info(self._store.stat(found))  # of this put, whatever others do meanwhile
        if durable:
            kept = await self._keep(found, value, metadata)
        else:  # what was kept is no longer the object's
            kept = False
            await self._unkeep([found])
        durability = self._journal.class_of(power=True) if kept else "volatile"
        return msgspec.structs.replace(info, durability=durability)

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
        await self._bring_back(found, rows.decode_object(row))
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
        if if_version is not None or found not in self._durable or self._has(found):
            self._store.delete(found, if_version=if_version, force=force)
        await self._unkeep([found])

    async def remove_ref(self, key: str, count: int) -> tuple[int, bool]:
        found = key_of(key)
        left = self._store.remove_ref(found, count)
        gone = not self._has(found)
        if gone:
            await self._unkeep([found])
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
        await self._unkeep(map(key_of, writes))
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

    async def _keep(
        self, key: bytes, value: bytes, metadata: Mapping[str, str] | None
    ) -> bool:  # fmt: skip
        """Whether this is kept; not where the object was put anew or deleted while its file was
        written: then what came later counts."""
        row = rows.ObjectRow(metadata=dict(metadata or {}))
        self._keeping.pop(key, None)
        if len(value) <= _INLINE_BYTES_MAX:
            row.value = value
            await self._write(key, row)
            return True
        self._keeping[key] = row
        row.digest = await self._blobs.put(value, sync=True)
        latest = self._keeping.get(key) is row
        try:
            if latest:
                del self._keeping[key]
                await self._write(key, row)
        finally:
            self._blobs.let_go(row.digest)
        if not latest:
            self._drop_file(row.digest)
        return latest

    async def _write(self, key: bytes, row: rows.ObjectRow) -> None:
        before = self._durable.get(key)
        self._durable[key] = row.digest
        self._journal.put(rows.object_key(key), rows.encode(row))
        try:
            await self._journal.kept()
        except SpearError:
            if before is not None and self._durable.get(key) == row.digest:
                self._durable[key] = before  # and the file of what is kept is needed
            raise
        self._drop_file(before or "")

    async def _unkeep(self, keys: Iterable[bytes]) -> None:
        """What is kept of these is theirs no more. All at once: who puts one of them durably
        while the others are written must not lose it."""
        digests = []
        for key in keys:
            self._keeping.pop(key, None)
            if key in self._durable:
                digests.append(self._durable.pop(key))
                self._journal.delete(rows.object_key(key))
        if digests:
            await self._journal.kept()
        for digest in digests:
            self._drop_file(digest)

    def _drop_file(self, digest: str) -> None:
        if digest and not self.needs(digest):
            self._blobs.delete(digest)

    async def _load(self, key: bytes, row: rows.ObjectRow) -> None:
        """One that cannot be put back (a damaged file, no room) is no reason not to start: who
        asks for it is told."""
        self._durable[key] = row.digest
        with contextlib.suppress(SpearError):
            await self._bring_back(key, row)

    async def _bring_back(self, key: bytes, row: rows.ObjectRow) -> None:
        """It had to make room for others. What was put or deleted meanwhile counts."""
        value = await self._blobs.read(row.digest) if row.digest else row.value
        if self._durable.get(key) == row.digest and not self._has(key):
            self._store.put(key, value, metadata=row.metadata)


def key_of(key: str) -> bytes:
    """The key as the table has it. Raises InvalidArgument."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{key!r} is no key: it cannot be written as UTF-8") from None

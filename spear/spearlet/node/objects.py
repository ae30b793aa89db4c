"""The node's objects for callers outside: text keys, OCC, and those that outlive the process.

The rule: the table in memory is the truth while the node runs. An object put durably is also a
row, written before the answer; at start those rows are put into the table again, under versions of
the new epoch, so that a version read before a restart never matches. One that had to make room in
the table is still there for callers, who bring it back under a new version. What a guest makes of
a durable object follows into its row (`follow_guests`); until then its durability is `volatile`.
Rows and their files have room for `durable_bytes_max`, so that nobody fills the disk with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec

from spear.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    ObjectNotFound,
    SnapshotExpired,
    SpearError,
    StoreFull,
)
from spear.records.objects import ObjectInfo, ObjectPage
from spear.spearlet.node import rows
from spear.spearlet.node.answers import page_of
from spear.spearlet.node.durables import Durables, Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spear._core.objstore import ObjectStat, ObjectStore
    from spear.kv.interface import LocalKv
    from spear.spearlet.node.blobs import Blobs
    from spear.spearlet.node.journal import Journal

_INLINE_BYTES_MAX = 65536
_GONE = 1 << 64  # above all versions
_SLICE = 256  # objects looked at in one turn of the loop
_SLICE_KNOWN = 4096  # of those of which only what is known of them is
_THERE, _AWAY, _DELETED = "there", "away", "deleted"


class NodeObjects:
    """Of one node, on its loop. `value_bytes_max` bounds one object."""

    def __init__(
        self, store: ObjectStore, journal: Journal, blobs: Blobs, kv: LocalKv,
        value_bytes_max: int, durable_bytes_max: int,
    ) -> None:  # fmt: skip
        self._store, self._journal, self._blobs = store, journal, blobs
        self._kv, self._value_bytes_max = kv, value_bytes_max
        self._durable = Durables(durable_bytes_max, store.set_durable_room)
        self._unkept = 0  # how many ceased to be durable, ever
        self._followed = (0, 0, 0, 0)  # `moved` when guests were last followed
        self._following = asyncio.Lock()
        self._keeping: dict[bytes, rows.ObjectRow] = {}  # whose files are being written
        self._for_guests: dict[bytes, asyncio.Task[int]] = {}  # each gives the version it kept

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
        self._check_size(value)
        if not overwrite:
            if if_version not in (None, 0):
                raise InvalidArgument("overwrite=false and if_version contradict each other")
            if found in self._durable or self._has(found):
                raise AlreadyExists(f"object {key!r} exists, and overwrite was not asked for")
            if_version = 0
        elif if_version is not None and found in self._durable:
            await self._back(found)
        if durable:
            self._durable.room_for(found, len(value), metadata or {})
        version = self._store.put(found, value, if_version=if_version, metadata=metadata)
        info = self._put_info(found, version, len(value), metadata)
        if durable:
            kept = await self._keep(found, value, info)
            if not kept and found in self._for_guests:  # a guest's put has taken it over
                await self.keep(found, version)
                kept = True
            if kept:
                power = self._journal.class_of(power=True)
                return msgspec.structs.replace(info, durability=power)
        elif found in self._durable or found in self._keeping:
            await self._unkeep([found])  # what was kept is no longer the object's
        return info

    def _check_size(self, value: bytes) -> None:
        if len(value) > self._value_bytes_max:
            raise InvalidArgument(
                f"the value has {len(value)} bytes, storage.max_object_size is "
                f"{self._value_bytes_max}"
            )

    async def get(self, key: str) -> tuple[ObjectInfo, bytes]:
        """Raises ObjectNotFound."""
        found = key_of(key)
        if found in self._durable:
            await self._back(found)
        return self._read(found)

    def _read(self, key: bytes) -> tuple[ObjectInfo, bytes]:
        while True:
            view, stat = self._store.get(key), self._store.stat(key)
            if view.version == stat.version:  # else a guest came between
                return self.info(stat), bytes(view)

    def _put_info(
        self, key: bytes, version: int, size: int, metadata: Mapping[str, str] | None
    ) -> ObjectInfo:
        """Of this put, whatever guests have done since."""
        with contextlib.suppress(ObjectNotFound):
            stat = self._store.stat(key)
            if stat.version == version:
                return self.info(stat)
        return ObjectInfo(
            key=key.decode(), size=size, version=version, metadata={**(metadata or {})}
        )

    async def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound."""
        found = key_of(key)
        if found in self._durable:
            await self._back(found)
        return self.info(self._store.stat(found))

    def list(self, prefix: str, limit: int, start_after: str) -> ObjectPage:
        """Those that had to make room are among them, as they were last. No more than make a
        page's bytes."""
        start, after = prefix.encode(), start_after.encode()
        stats = self._store.list(start, limit + 1, after or None)
        found = {stat.key: self.info(stat) for stat in stats}
        last = stats[limit].key if len(stats) > limit else None
        for key in self._away(start, after, last, limit + 1):
            found.setdefault(key, self._durable[key].info)
        keys = sorted(found)[: limit + 1]
        objects = page_of([found[key] for key in keys], limit)
        return ObjectPage(tuple(objects), objects[-1].key if len(keys) > len(objects) else "")

    def _away(self, start: bytes, after: bytes, last: bytes | None, limit: int) -> Iterator[bytes]:
        """The first keys behind `after`, up to `last`, of what had to make room. What is passed
        over lies in the table, so it is no more than the table has of the page."""
        place = self._durable.first_under(start, after)
        while limit and (kept := self._durable.at(place)) and kept.key.startswith(start):
            if last is not None and kept.key > last:
                return
            if self._place_of(kept.key) == _AWAY:
                limit -= 1
                yield kept.key
            place += 1

    def _place_of(self, key: bytes) -> str:
        """Of a durable object. What is missing in the table although nothing was evicted was
        deleted by a guest; the count is looked at last, since a guest may evict it just now."""
        if self._has(key):
            return _THERE
        evicted = self._durable[key].away or self._evictions != self._followed[2]
        return _AWAY if evicted else _DELETED

    async def maybe_away(self, start: bytes) -> Sequence[Kept]:
        """Those under `start` that had to make room, where the table has none of the key, by key,
        as they are when this is called; their rows are written when it returns. Who has a snapshot
        of the table calls it in the same turn of the loop, and looks there first: that is cheaper
        than to look for each."""
        kept, evicted = self._durable.under(start), self._evictions != self._followed[2]
        found: list[Kept] = []
        for at in range(0, len(kept), _SLICE_KNOWN):
            await asyncio.sleep(0)
            found += [one for one in kept[at : at + _SLICE_KNOWN] if evicted or one.away]
        return found

    async def value_of(self, kept: Kept) -> bytes:
        """As it was then, in an earlier turn of the loop. Raises KvDamaged; SnapshotExpired where
        another value was kept in its place."""
        with contextlib.suppress(NotFound):
            if kept.digest:
                return await self._blobs.read(kept.digest)
            row = self._kv.get(rows.object_key(kept.key)) if self._durable.same_row(kept) else None
            if row is not None:
                return rows.decode_object(row).value
        raise SnapshotExpired(
            f"object {kept.info.key!r} was not in memory, and was changed before it was read: take "
            "another snapshot"
        )

    async def delete(self, key: str, force: bool, if_version: int | None) -> None:
        """Raises ObjectNotFound, ObjectInUse, VersionConflict."""
        found = key_of(key)
        if if_version is not None:
            await self._back(found)
        if if_version is not None or found not in self._durable or self._has(found):
            self._store.delete(found, if_version=if_version, force=force)
        await self._unkeep([found])

    async def add_ref(self, key: str, count: int, if_version: int | None) -> int:
        found = key_of(key)
        await self._back(found)
        return self._store.add_ref(found, count, if_version=if_version)

    async def pin(self, key: str, pinned: bool, if_version: int | None) -> None:
        found = key_of(key)
        await self._back(found)
        change = self._store.pin if pinned else self._store.unpin
        change(found, if_version=if_version)

    async def remove_ref(
        self, key: str, count: int, if_version: int | None
    ) -> tuple[int, bool]:  # fmt: skip
        found = key_of(key)
        await self._back(found)
        left = self._store.remove_ref(found, count, if_version=if_version)
        gone = not self._has(found)
        if gone:
            await self._unkeep([found])
        return left, gone

    async def transact(
        self, reads: Mapping[str, int], writes: Mapping[str, bytes | None]
    ) -> dict[str, int]:
        """Raises VersionConflict; then nothing was written."""
        from spear._core.objstore import DELETE

        for key in (*reads, *writes):
            await self._back(key_of(key))
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
        return digest in self._durable.digests

    @property
    def moved(self) -> tuple[int, int, int, int]:
        """Counts one of which is another once anything was put or has gone."""
        stats = self._store.stats()
        return stats.puts, stats.deletes, stats.evictions, self._unkept

    async def follow_guests(self) -> None:
        """Makes the rows what guests have made of the objects. A guest's deletion that falls
        together with evictions cannot be told from one: that object is there again."""
        async with self._following:
            moved = self.moved
            if moved != self._followed:
                last = b""
                while part := self._durable.behind(last, _SLICE):
                    await self._follow_all(part)
                    last = part[-1].key
                    await asyncio.sleep(0)
            self._followed = moved  # of before: what moved meanwhile is followed again

    async def _follow_all(self, part: Sequence[Kept]) -> None:
        for kept in part:
            with contextlib.suppress(ObjectNotFound, StoreFull):
                await self._follow(kept.key)
        places = {kept.key: self._place_of(kept.key) for kept in part if kept.key in self._durable}
        for key, place in places.items():
            if (kept := self._durable[key]).away != (place == _AWAY):
                self._durable[key] = msgspec.structs.replace(kept, away=place == _AWAY)
        await self._unkeep([key for key, place in places.items() if place == _DELETED])

    async def keep(self, key: bytes, version: int) -> None:
        """What a guest has put as `version`, or what has come in its place since; returns at once
        where it was deleted. Goes on where the wait for it is cancelled. Raises KvFull, KvDamaged,
        InvalidArgument for a value beyond the limit; the object is in memory only then. StoreFull:
        it had to make room. One a key at a time, or the puts of several guests would make each
        other's file vain forever."""
        while True:
            task = self._for_guests.get(key)
            if task is None:
                task = self._for_guests[key] = asyncio.ensure_future(self._keep_present(key))
                task.add_done_callback(_heard)
            if await asyncio.shield(task) >= version:
                return

    async def _keep_present(self, key: bytes) -> int:
        try:
            while True:
                info, value = self._read(key)
                self._check_size(value)
                # Not where a plain put came meanwhile and had the row go.
                if await self._keep(key, value, info) and key in self._durable:
                    return info.version
        except ObjectNotFound as error:
            if self._evictions != self._followed[2]:  # it is held, but not what came in its place
                raise StoreFull(f"object {key!r} had to make room before it was kept") from error
            return _GONE
        finally:
            del self._for_guests[key]

    async def settle(self) -> None:
        """What guests have put is kept, or could not be."""
        while self._for_guests:
            await asyncio.wait(set(self._for_guests.values()))
            await asyncio.sleep(0)  # who waited may begin once more

    async def _follow(self, key: bytes) -> None:
        """Raises ObjectNotFound."""
        kept = self._durable.get(key)
        stat = self._store.stat(key)
        if kept is not None and stat.version != kept.info.version and key not in self._keeping:
            await self._keep(key, bytes(self._store.get(key)), self.info(stat))

    async def _back(self, key: bytes) -> None:
        """In the table again, where it had to make room."""
        if key not in self._durable or self._has(key):
            return
        if self._store.stats().deletes != self._followed[1]:  # else it was evicted
            await self.follow_guests()
        row = self._kv.get(rows.object_key(key)) if key in self._durable else None
        if row is not None:
            await self._bring_back(key, rows.decode_object(row))

    @property
    def _evictions(self) -> int:
        return self._store.stats().evictions

    def _has(self, key: bytes) -> bool:
        try:
            self._store.stat(key)
        except ObjectNotFound:
            return False
        return True

    def info(self, stat: ObjectStat) -> ObjectInfo:
        kept = self._durable.get(stat.key)
        durable = kept is not None and kept.info.version == stat.version
        return ObjectInfo(
            key=stat.key.decode("utf-8", "replace"),
            size=stat.size,
            version=stat.version,
            created_ms=stat.created_ms,
            updated_ms=stat.updated_ms,
            ref_count=stat.refs,
            pinned=stat.pinned,
            metadata=stat.metadata,
            durability=self._journal.class_of(power=True) if durable else "volatile",
        )

    async def _keep(self, key: bytes, value: bytes, info: ObjectInfo) -> bool:
        """Whether this is kept; not where the object was put anew or deleted while its file was
        written: then what came later counts."""
        row = rows.ObjectRow(metadata=info.metadata)
        info = msgspec.structs.replace(info, durability=self._journal.class_of(power=True))
        wanted = self._durable.room_for(key, len(value), info.metadata)
        self._keeping.pop(key, None)
        if len(value) <= _INLINE_BYTES_MAX:
            row.value = value
            await self._write(key, row, info)
            return True
        self._keeping[key] = row
        self._durable.coming(wanted)
        try:
            row.digest = await self._blobs.put(value, sync=True)
        except BaseException:
            if self._keeping.get(key) is row:
                del self._keeping[key]
            raise
        finally:
            self._durable.coming(-wanted)
        latest = self._keeping.get(key) is row
        try:
            if latest:
                del self._keeping[key]
                await self._write(key, row, info)
        finally:
            self._blobs.let_go(row.digest)
        if not latest:
            self._drop_file(row.digest)
        return latest

    async def _write(self, key: bytes, row: rows.ObjectRow, info: ObjectInfo) -> None:
        before = self._durable.get(key)
        self._durable[key] = kept = Kept(key, row.digest, info, self._durable.next_row())
        self._journal.put(rows.object_key(key), rows.encode(row))
        try:
            await self._journal.kept()
        except SpearError:
            if self._durable.same_row(kept):
                # The file of what is kept is needed; of no object: it is not known as kept.
                unknown = msgspec.structs.replace(info, version=0, durability="volatile")
                self._durable[key] = before or msgspec.structs.replace(kept, info=unknown)
            raise
        self._drop_file(before.digest if before else "")

    async def _unkeep(self, keys: Iterable[bytes]) -> None:
        """What is kept of these is theirs no more. All at once: who puts one of them durably
        while the others are written must not lose it."""
        digests = []
        for key in keys:
            self._keeping.pop(key, None)
            if key in self._durable:
                digests.append(self._durable[key].digest)
                del self._durable[key]
                self._unkept += 1
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
        size = self._blobs.size(row.digest) if row.digest else len(row.value)
        name, power = key.decode("utf-8", "replace"), self._journal.class_of(power=True)
        info = ObjectInfo(
            key=name, size=size, version=0, metadata=row.metadata, durability=power
        )  # fmt: skip
        self._durable[key] = Kept(key, row.digest, info, self._durable.next_row(), away=True)
        with contextlib.suppress(SpearError):
            await self._bring_back(key, row)

    async def _bring_back(self, key: bytes, row: rows.ObjectRow) -> None:
        """It had to make room for others. What was put or deleted meanwhile counts."""
        try:
            value = await self._blobs.read(row.digest) if row.digest else row.value
        except NotFound:
            if key in self._durable and self._durable[key].digest == row.digest:
                raise
            return  # its file went with it
        kept = self._durable.get(key)
        if kept is not None and kept.digest == row.digest and not self._has(key):
            self._store.put(key, value, metadata=row.metadata)
            info = msgspec.structs.replace(
                self.info(self._store.stat(key)), durability=kept.info.durability
            )
            self._durable[key] = msgspec.structs.replace(kept, info=info, away=False)


def _heard(task: asyncio.Task[int]) -> None:
    """Whoever waited may have gone: its error is nobody's then."""
    if not task.cancelled():
        task.exception()


def key_of(key: str) -> bytes:
    """The key as the table has it. Raises InvalidArgument."""
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{key!r} is no key: it cannot be written as UTF-8") from None

"""The object store in plain Python: dictionaries, one lock, and sums instead of counters.

Rule: the same names, errors, versions, evictions and byte counts as `spear._core.objstore`, each
computed in the most obvious way: a snapshot copies the table, the budget is added up anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spear._core.objstore import DELETE, ObjectStat
from spear.errors import (
    InvalidArgument,
    ObjectInUse,
    ObjectNotFound,
    SnapshotExpired,
    StoreFull,
    VersionConflict,
)

ENTRY_BYTES = 192
RECORD_BYTES = 128
ANY = object()


@dataclass(eq=False)
class Record:
    value: bytes
    metadata: dict[str, str]
    version: int = 0
    created_ms: int = 0
    updated_ms: int = 0
    views: int = 0

    @property
    def bytes(self) -> int:
        packed = sum(8 + len(k.encode()) + len(v.encode()) for k, v in self.metadata.items())
        return RECORD_BYTES + len(self.value) + packed


@dataclass(eq=False)
class Entry:
    record: Record
    refs: int = 0
    pinned: bool = False
    used_at: int = 0


@dataclass
class Write:
    key: bytes
    record: Record | None  # None: delete
    expected: Any = ANY
    force: bool = False


class View:
    def __init__(self, record: Record) -> None:
        self.record = record
        record.views += 1

    def __del__(self) -> None:
        self.record.views -= 1

    def __bytes__(self) -> bytes:
        return self.record.value

    @property
    def version(self) -> int:
        return self.record.version

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.record.metadata)


@dataclass(eq=False)
class Snapshot:
    store: ObjectStore
    records: dict[bytes, Record]
    deadline_ms: int
    yields: bool = False
    closed: bool = False

    def _check(self) -> None:
        if self.closed:
            raise InvalidArgument("closed")
        if self.store.clock_ms() >= self.deadline_ms:
            self.store.snapshots.discard(self)
        if self not in self.store.snapshots:
            raise SnapshotExpired("expired")

    def get(self, key: bytes) -> View:
        with self.store.lock:
            self._check()
            if key not in self.records:
                raise ObjectNotFound(key)
            self.store.viewed.add(self.records[key])
            return View(self.records[key])

    def list(
        self, prefix: bytes = b"", limit: int = 1000, start_after: bytes | None = None
    ) -> list[ObjectStat]:
        with self.store.lock:
            self._check()
            return self.store._listed(self.records, prefix, limit, start_after)

    def close(self) -> None:
        with self.store.lock:
            self.closed = True
            self.store.snapshots.discard(self)


@dataclass(eq=False)
class ObjectStore:
    bytes_max: int
    epoch: int = 1
    clock_ms: Callable[[], int] = field(default=lambda: 0)
    evictions: int = 0

    def __post_init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.snapshots: set[Snapshot] = set()
        self.viewed: set[Record] = set()
        self.version = self.epoch << 40
        self.uses = 0
        self.lock = threading.RLock()

    # Bytes.

    def bytes_used(self) -> int:
        shown = [s.records for s in self.snapshots]
        self.viewed = {record for record in self.viewed if record.views}
        records = {entry.record for entry in self.entries.values()} | self.viewed
        records.update(*(table.values() for table in shown))
        keys = set(self.entries).union(*shown)
        return sum(record.bytes for record in records) + sum(ENTRY_BYTES + len(k) for k in keys)

    def bytes_live(self) -> int:
        return sum(ENTRY_BYTES + len(k) + e.record.bytes for k, e in self.entries.items())

    def _shown(self, key: bytes, record: Record | None = None) -> bool:
        """Whether a snapshot shows the key, or just this record of it."""
        return any(
            key in s.records and (record is None or s.records[key] is record)
            for s in self.snapshots
        )

    def _gain(self, key: bytes) -> int:
        record = self.entries[key].record
        if self._shown(key, record):
            return 0
        entry_bytes = 0 if self._shown(key) else ENTRY_BYTES + len(key)
        return entry_bytes + (0 if record.views else record.bytes)

    def _cost(self, write: Write) -> int:
        entry = self.entries.get(write.key)
        if write.record is None:
            return -self._gain(write.key)
        cost = write.record.bytes
        if entry is None:
            return cost + (0 if self._shown(write.key) else ENTRY_BYTES + len(write.key))
        if not entry.record.views and not self._shown(write.key, entry.record):
            cost -= entry.record.bytes
        return cost

    def expire(self) -> None:
        now_ms = self.clock_ms()
        self.snapshots = {s for s in self.snapshots if now_ms < s.deadline_ms}

    def _make_room(self, need: int, guarded: set[bytes]) -> None:
        if need <= 0 or self.bytes_used() + need <= self.bytes_max:
            return
        over = self.bytes_used() + need - self.bytes_max
        doomed = []
        for key, entry in sorted(self.entries.items(), key=lambda item: item[1].used_at):
            if over <= 0:
                break
            free = not (entry.refs or entry.pinned or entry.record.views or key in guarded)
            if free and not self._shown(key, entry.record):
                over -= self._gain(key)
                doomed.append(key)
        if over > 0:
            raise StoreFull(f"{over} bytes too many")
        for key in doomed:
            del self.entries[key]
            self.evictions += 1

    # Changes.

    def _touch(self, entry: Entry) -> None:
        self.uses += 1
        entry.used_at = self.uses

    def _check(self, key: bytes, expected: Any) -> None:
        actual = self.entries[key].record.version if key in self.entries else 0
        if expected is not ANY and expected != actual:
            raise VersionConflict(key, expected, actual)

    def _plan(self, writes: list[Write]) -> int:
        need = 0
        for write in writes:
            entry = self.entries.get(write.key)
            if write.record is None and entry is None:
                raise ObjectNotFound(write.key)
            self._check(write.key, write.expected)
            if write.record is None and entry and not write.force and (entry.refs or entry.pinned):
                raise ObjectInUse(write.key)
            need += self._cost(write)
        return need

    def _change(self, reads: Mapping[bytes, int], writes: list[Write]) -> dict[bytes, int]:
        with self.lock:
            for write in writes:
                if write.record and len(write.record.value) > self.bytes_max:
                    raise StoreFull("larger than the store")
            for key, version in reads.items():
                self._check(key, version)
            if self.bytes_used() + self._plan(writes) > self.bytes_max:
                self.expire()
            guarded = {write.key for write in writes} | set(reads)
            try:
                self._make_room(self._plan(writes), guarded)
            except StoreFull:
                given, self.snapshots = self.snapshots, {s for s in self.snapshots if not s.yields}
                try:
                    self._make_room(self._plan(writes), guarded)
                except StoreFull:  # then none was ended
                    self.snapshots = given
                    raise
            return {write.key: self._publish(write) for write in writes}

    def _publish(self, write: Write) -> int:
        self.version += 1
        if write.record is None:
            del self.entries[write.key]
            return 0
        now_ms = self.clock_ms()
        record = write.record
        record.version, record.created_ms, record.updated_ms = self.version, now_ms, now_ms
        entry = self.entries.setdefault(write.key, Entry(record))
        if entry.record is not record:
            record.created_ms = entry.record.created_ms
            entry.record = record
        self._touch(entry)
        return self.version

    def put(
        self,
        key: bytes,
        value: Any,
        *,
        if_version: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        expected = ANY if if_version is None else if_version
        record = Record(bytes(value), dict(metadata or {}))
        return self._change({}, [Write(key, record, expected)])[key]

    def delete(self, key: bytes, *, if_version: int | None = None, force: bool = False) -> None:
        expected = ANY if if_version is None else if_version
        self._change({}, [Write(key, None, expected, force)])

    def transact(
        self, reads: Mapping[bytes, int] | None = None, writes: Mapping[bytes, Any] | None = None
    ) -> dict[bytes, int]:
        return self._change(
            reads or {},
            [
                Write(key, None if value is DELETE else Record(bytes(value), {}))
                for key, value in (writes or {}).items()
            ],
        )

    # Reads, references, pins.

    def _entry(self, key: bytes) -> Entry:
        if key not in self.entries:
            raise ObjectNotFound(key)
        return self.entries[key]

    def get(self, key: bytes) -> View:
        with self.lock:
            entry = self._entry(key)
            self._touch(entry)
            self.viewed.add(entry.record)
            return View(entry.record)

    def add_ref(self, key: bytes, count: int = 1) -> int:
        with self.lock:
            entry = self._entry(key)
            entry.refs += count
            return entry.refs

    def remove_ref(self, key: bytes, count: int = 1) -> int:
        with self.lock:
            entry = self._entry(key)
            if count > entry.refs:
                raise InvalidArgument(f"{entry.refs} < {count}")
            entry.refs -= count
            if not entry.refs and not entry.pinned:
                self._touch(entry)
            return entry.refs

    def pin(self, key: bytes) -> None:
        with self.lock:
            self._entry(key).pinned = True

    def unpin(self, key: bytes) -> None:
        with self.lock:
            entry = self._entry(key)
            if entry.pinned and not entry.refs:
                self._touch(entry)
            entry.pinned = False

    # Lists and snapshots.

    def _stat(self, key: bytes, record: Record) -> ObjectStat:
        entry = self.entries.get(key)
        current = entry is not None and entry.record is record
        return ObjectStat(
            key,
            len(record.value),
            record.version,
            entry.refs if entry and current else 0,
            bool(entry and current and entry.pinned),
            record.created_ms,
            record.updated_ms,
            dict(record.metadata),
        )

    def _listed(
        self, records: Mapping[bytes, Record], prefix: bytes, limit: int, after: bytes | None
    ) -> list[ObjectStat]:
        keys = sorted(k for k in records if k.startswith(prefix) and (after is None or k > after))
        return [self._stat(key, records[key]) for key in keys[:limit]]

    def stat(self, key: bytes) -> ObjectStat:
        with self.lock:
            return self._stat(key, self._entry(key).record)

    def list(
        self, prefix: bytes = b"", limit: int = 1000, start_after: bytes | None = None
    ) -> list[ObjectStat]:
        with self.lock:
            records = {key: entry.record for key, entry in self.entries.items()}
            return self._listed(records, prefix, limit, start_after)

    def snapshot(self, *, age_ms_max: int = 60_000, yields: bool = False) -> Snapshot:
        with self.lock:
            records = {key: entry.record for key, entry in self.entries.items()}
            snapshot = Snapshot(self, records, self.clock_ms() + age_ms_max, yields)
            self.snapshots.add(snapshot)
            return snapshot

# cython: language_level=3
"""The object store's Python face: one table that Python and guests share.

Rule: no Python code runs and no GIL is waited for while the table's lock is held; a call tries the
lock with the GIL, and waits for it only after letting the GIL go.

Values are copied in and seen through views; an object's version grows with every put, over the
whole store. The layout and its measurements: docs/adr/0002-object-store-layout.md.
"""

import enum
from os import urandom
from typing import NamedTuple

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from spear._core.objentries cimport (
    ABOVE_MAX, ANY_VERSION, BELOW_ZERO, BUSY, CHANGES_MAX, CHECK, CONFLICT, ENTRY_BYTES, EXHAUSTED,
    FULL, IN_USE, METADATA_BYTES_MAX, NO_MEMORY, NOT_FOUND, OK, PUT, RECORD_BYTES, REFS_MAX,
    REMOVE, __ATOMIC_RELAXED, Change, ChangeKind, Figures, Moment, Outcome, Row, __atomic_store_n,
    blob_release,
)
from spear._core.objtable cimport (
    moment_now, table_change, table_figures, table_get, table_new, table_pin, table_refs,
    table_stat,
)
from spear._core.objviews cimport (
    ROWS, ObjectView as View, TableOwner, age_of, bytes_at, check_key, check_limit, listed,
    snapshot_of, stat_of,
)

from spear._core.objviews import LIST_LIMIT_MAX, ObjectStat, ObjectView, Snapshot
from spear.errors import (
    InvalidArgument, ObjectInUse, ObjectNotFound, StoreFull, VersionConflict, shown,
)

cdef enum:
    RELEASE_GIL_MIN = 1048576  # a copy of 1 MiB takes 20 us; getting the GIL back can take 5 ms

BYTES_MAX_LIMIT = 1 << 42
EPOCH_MAX = (1 << 23) - 1
__all__ = [
    "BYTES_MAX_LIMIT", "DELETE", "EPOCH_MAX", "LIST_LIMIT_MAX", "OBJECT_BYTES_OVERHEAD", "Deletion",
    "ObjectStat", "ObjectStore", "ObjectView", "Snapshot", "StoreStats",
]
OBJECT_BYTES_OVERHEAD = ENTRY_BYTES + RECORD_BYTES


class Deletion(enum.Enum):
    """The type of DELETE."""

    DELETE = "delete"


DELETE = Deletion.DELETE


class StoreStats(NamedTuple):
    """Counts and bytes at one moment.

    `bytes_used` is what the budget counts: `bytes_live` (current versions and their keys),
    `bytes_held` (replaced, deleted or evicted versions that views or snapshots still show) and
    `bytes_writing` (reserved by large puts under way). `bytes_recycled` are warm blocks at rest in
    the room the budget leaves, `bytes_mapped` pages taken from the system, without malloc's.
    `refusals` counts StoreFull.
    """

    objects: int
    snapshots: int
    bytes_max: int
    bytes_used: int
    bytes_live: int
    bytes_held: int
    bytes_writing: int
    bytes_recycled: int
    bytes_mapped: int
    recycles: int
    puts: int
    gets: int
    misses: int
    deletes: int
    conflicts: int
    evictions: int
    refusals: int


# What came from outside.

cdef int64_t version_of(object version) except? -1:
    if version is None:
        return ANY_VERSION
    if not 0 <= version <= INT64_MAX:
        raise InvalidArgument(f"a version lies between 0 and 2**63 - 1, not {version}")
    return version


cdef bytes packed(object metadata):
    """u32 length and UTF-8 of each key and value in turn."""
    cdef list parts = []
    if not metadata:
        return None
    for pair in metadata.items():
        for text in pair:
            if not isinstance(text, str):
                raise InvalidArgument(f"metadata maps str to str, found {type(text).__name__}")
            data = text.encode()
            parts += (len(data).to_bytes(4, "little"), data)
    whole = b"".join(parts)
    if len(whole) > METADATA_BYTES_MAX:
        raise InvalidArgument(
            f"metadata takes {len(whole)} bytes packed, the limit is {METADATA_BYTES_MAX}"
        )
    return whole


# What the table answers.

cdef int refuse(ObjectStore store, Outcome outcome, bytes key, const Change *change) except -1:
    """Raises the error of an outcome other than OK."""
    if outcome == NOT_FOUND:
        raise ObjectNotFound(f"there is no object {shown(key)}")
    if outcome == CONFLICT:
        raise VersionConflict(key, change.expected, change.actual)
    if outcome == IN_USE:
        raise ObjectInUse(f"object {shown(key)} is referenced or pinned; delete it with force=True")
    if outcome == FULL:
        used, most = store.stats().bytes_used, store.table.bytes_max
        raise StoreFull(
            f"object {shown(key)} does not fit: {used} of {most} bytes are in use, and too few of "
            "them belong to objects that are neither referenced, pinned nor held"
        )
    if outcome == EXHAUSTED:
        raise OverflowError("this epoch's 2**40 versions are used up; open a store with the next")
    if outcome == NO_MEMORY:
        raise MemoryError
    raise RuntimeError(f"object table: outcome {<int>outcome} was not expected here")


@cython.final
cdef class ObjectStore(TableOwner):
    """Objects by key, in memory, within `bytes_max` bytes; safe from many threads, linearizable.

    The budget counts value, packed metadata, key and OBJECT_BYTES_OVERHEAD for each object (of
    that, 128 for each version kept). When a put does not fit, the least recently used objects that
    are neither referenced, pinned, nor shown by a view or snapshot go; a use is a get, a put, and
    the remove_ref or unpin that makes an object reclaimable. While a value of 64 KiB or more is
    written over an old one, both lie in memory; the budget counts the outcome.

    Args: bytes_max: 1 to 2**42. epoch: 0 to 2**23 - 1, the upper bits of every version; a restart
    takes a larger one. clock_ms: milliseconds for stamps and the ages of snapshots, must not use
    the store; default: the machine's wall and monotonic clocks, to 4 ms.
    Raises InvalidArgument.
    """

    def __cinit__(self, bytes_max, *, epoch=1, clock_ms=None):
        cdef bytes secret = urandom(16)
        if not 1 <= bytes_max <= BYTES_MAX_LIMIT:
            raise InvalidArgument(f"bytes_max lies between 1 and 2**42, not {bytes_max}")
        if not 0 <= epoch <= EPOCH_MAX:
            raise InvalidArgument(f"an epoch lies between 0 and 2**23 - 1, not {epoch}")
        self.clock_ms = clock_ms
        self.table = table_new(bytes_max, epoch, <const uint64_t *>PyBytes_AS_STRING(secret))
        if self.table == NULL:
            raise MemoryError

    cdef Moment _now(self) except *:
        cdef Moment now
        if self.clock_ms is None:
            return moment_now(self.table)
        now.wall_ms = now.age_ms = self.clock_ms()
        return now

    def __len__(self):
        return self.stats().objects

    def __repr__(self):
        stats = self.stats()
        return (f"<ObjectStore of {stats.objects} objects, "
                f"{stats.bytes_used} of {stats.bytes_max} bytes>")

    def put(self, bytes key not None, value, *, if_version=None, metadata=None):
        """Stores a copy of `value`, gives the object's new version; references and pin stay.

        Args: key: 1 to 1024 bytes. value: any contiguous buffer. if_version: the version the object
        must be at, 0: it must not exist. metadata: str to str, up to 64 KiB packed; replaces what
        was there.
        Raises VersionConflict, StoreFull (nothing is lost), InvalidArgument, OverflowError after
        2**40 versions of an epoch.
        """
        cdef Change change
        cdef Moment now
        cdef Outcome outcome
        cdef uint32_t failed
        cdef Py_buffer buffer
        cdef bint borrowed = False
        cdef bytes notes = None
        check_key(key)
        now = self._now()
        change.kind = PUT
        change.key = bytes_at(key)
        change.key_bytes = <uint32_t>PyBytes_GET_SIZE(key)
        change.expected = ANY_VERSION if if_version is None else version_of(if_version)
        change.metadata_bytes = 0
        if metadata is not None:
            notes = packed(metadata)
            if notes is not None:
                change.metadata = bytes_at(notes)
                change.metadata_bytes = <uint32_t>PyBytes_GET_SIZE(notes)
        if PyBytes_CheckExact(value):
            change.value = bytes_at(value)
            change.value_bytes = <uint64_t>PyBytes_GET_SIZE(value)
        else:
            PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
            borrowed = True
            change.value = <const unsigned char *>buffer.buf
            change.value_bytes = <uint64_t>buffer.len
        outcome = changed(self, &change, 1, now, change.value_bytes, &failed)
        if borrowed:
            PyBuffer_Release(&buffer)
        if outcome != OK:
            refuse(self, outcome, key, &change)
        return change.version

    def get(self, bytes key not None):
        """A view of the current value, without a copy. Raises ObjectNotFound."""
        cdef View view
        cdef Outcome outcome
        cdef const unsigned char *at = bytes_at(key)
        cdef uint32_t size
        check_key(key)
        size = <uint32_t>PyBytes_GET_SIZE(key)
        view = View.__new__(View)
        view.store = self
        view.key = key
        outcome = table_get(self.table, at, size, False, &view.blob)
        if outcome == BUSY:
            with nogil:
                outcome = table_get(self.table, at, size, True, &view.blob)
        if outcome != OK:
            refuse(self, outcome, key, NULL)
        return view

    def stat(self, bytes key not None):
        """What is known of the object; not a use. Raises ObjectNotFound."""
        cdef Row row
        cdef Outcome outcome
        cdef const unsigned char *at = bytes_at(key)
        cdef uint32_t size
        check_key(key)
        size = <uint32_t>PyBytes_GET_SIZE(key)
        with nogil:
            outcome = table_stat(self.table, at, size, True, &row)
        if outcome != OK:
            refuse(self, outcome, key, NULL)
        try:
            return stat_of(key, &row)
        finally:
            blob_release(self.table, row.blob)

    def list(self, bytes prefix not None=b"", limit=1000, bytes start_after=None):
        """The stats of up to `limit` (1 to 1,000,000) objects under `prefix`, in key order.

        All rows are of one moment. `start_after`: only keys above it. The lock is held for 64 rows
        at a time, the rest is read from a snapshot.
        """
        check_limit(limit)
        if limit <= ROWS:
            return listed(self, NULL, prefix, limit, start_after)
        with snapshot_of(self, INT64_MAX, False) as moment:
            return moment.list(prefix, limit, start_after)

    def delete(self, bytes key not None, *, if_version=None, force=False):
        """Deletes the object; views and snapshots keep showing it.

        Raises ObjectNotFound, VersionConflict, ObjectInUse when it is referenced or pinned and not
        `force`.
        """
        cdef Change change
        cdef Outcome outcome
        cdef uint32_t failed
        check_key(key)
        change.kind = REMOVE
        change.key = bytes_at(key)
        change.key_bytes = <uint32_t>PyBytes_GET_SIZE(key)
        change.metadata_bytes = 0
        change.expected = version_of(if_version)
        change.force = bool(force)
        outcome = changed(self, &change, 1, self._now(), 0, &failed)
        if outcome != OK:
            refuse(self, outcome, key, &change)

    def add_ref(self, bytes key not None, count=1, *, if_version=None):
        """Adds references, gives the new count (at most 2**31 - 1). Raises ObjectNotFound,
        VersionConflict."""
        return counted(self, key, ref_count(count), version_of(if_version))

    def remove_ref(self, bytes key not None, count=1, *, if_version=None):
        """Removes references, gives the new count; at 0 the object is reclaimable unless pinned.

        Raises ObjectNotFound, VersionConflict, InvalidArgument when there are fewer (nothing
        changes).
        """
        return counted(self, key, -ref_count(count), version_of(if_version))

    def pin(self, bytes key not None, *, if_version=None):
        """Keeps the object from being reclaimed; pinning twice is pinning. Raises ObjectNotFound,
        VersionConflict."""
        pin_set(self, key, True, version_of(if_version))

    def unpin(self, bytes key not None, *, if_version=None):
        """Takes the pin away, if there is one. Raises ObjectNotFound, VersionConflict."""
        pin_set(self, key, False, version_of(if_version))

    def snapshot(self, *, age_ms_max=60_000, bint yields=False):
        """A consistent view of the whole store at this moment, in constant time.

        Versions it alone shows count in the budget until it is closed or `age_ms_max` old (1 to
        2**40). One that `yields` is ended early where a put would be refused for want of room.
        Raises StoreFull when 1024 are open.
        """
        if not 1 <= age_ms_max <= 1 << 40:
            raise InvalidArgument(f"a snapshot's age lies between 1 and 2**40 ms, not {age_ms_max}")
        return snapshot_of(self, age_of(self) + <int64_t>age_ms_max, yields)

    def transact(self, reads=None, writes=None):
        """Makes all the writes at one moment if every read version still holds, else none.

        Args: reads: key to version (0: must not exist). writes: key to value or DELETE; metadata of
        what is written becomes empty. Gives key to new version, 0 for a deleted one. At most 65,536
        keys.
        Raises VersionConflict (naming the key and both versions), ObjectNotFound and ObjectInUse
        for a DELETE, StoreFull.
        """
        cdef _Batch batch = _Batch(reads or {}, writes or {})
        return batch.run(self)

    def set_durable_room(self, int64_t room):
        """How many bytes, key and value, whoever keeps objects would still keep of a new one; below
        0: none. A guest's durable put beyond that is refused before it changes anything."""
        __atomic_store_n(&self.table.durable_room, room, __ATOMIC_RELAXED)

    def stats(self):
        """Counts and bytes at one moment."""
        cdef Figures f
        cdef int64_t age_ms = age_of(self)
        with nogil:
            table_figures(self.table, age_ms, &f)
        return StoreStats(
            f.objects, f.snapshots, self.table.bytes_max, f.bytes_used, f.bytes_live,
            f.bytes_used - f.bytes_live - f.bytes_writing, f.bytes_writing, f.bytes_recycled,
            f.bytes_mapped, f.recycles, f.counters.puts, f.counters.gets, f.counters.misses,
            f.counters.deletes, f.counters.conflicts, f.counters.evictions, f.counters.refusals,
        )


cdef inline Outcome changed(
    ObjectStore store, Change *changes, uint32_t count, Moment now, uint64_t bytes, uint32_t *failed
) noexcept:
    cdef Outcome outcome = BUSY
    if bytes < RELEASE_GIL_MIN:
        outcome = table_change(store.table, changes, count, now, False, failed)
    if outcome == BUSY:
        with nogil:
            outcome = table_change(store.table, changes, count, now, True, failed)
    return outcome


cdef int64_t ref_count(object count) except -1:
    if not 1 <= count <= REFS_MAX:
        raise InvalidArgument(f"a count of references lies between 1 and {REFS_MAX}, not {count}")
    return count


cdef object counted(ObjectStore store, bytes key, int64_t add, int64_t expected):
    cdef Change asked
    cdef Outcome outcome
    cdef int32_t refs = 0
    cdef const unsigned char *at = bytes_at(key)
    cdef uint32_t size
    check_key(key)
    size = <uint32_t>PyBytes_GET_SIZE(key)
    asked.expected = expected
    outcome = table_refs(store.table, at, size, add, expected, False, &refs, &asked.actual)
    if outcome == BUSY:
        with nogil:
            outcome = table_refs(store.table, at, size, add, expected, True, &refs, &asked.actual)
    if outcome == BELOW_ZERO:
        raise InvalidArgument(
            f"object {shown(key)} has {refs} references, {-add} cannot be removed"
        )
    if outcome == ABOVE_MAX:
        raise InvalidArgument(f"object {shown(key)} has {refs} references, the limit is {REFS_MAX}")
    if outcome != OK:
        refuse(store, outcome, key, &asked)
    return refs


cdef int pin_set(ObjectStore store, bytes key, bint pinned, int64_t expected) except -1:
    cdef Change asked
    cdef Outcome outcome
    cdef const unsigned char *at = bytes_at(key)
    cdef uint32_t size
    check_key(key)
    size = <uint32_t>PyBytes_GET_SIZE(key)
    asked.expected = expected
    outcome = table_pin(store.table, at, size, pinned, expected, False, &asked.actual)
    if outcome == BUSY:
        with nogil:
            outcome = table_pin(store.table, at, size, pinned, expected, True, &asked.actual)
    if outcome != OK:
        refuse(store, outcome, key, &asked)
    return 0


# Transactions.

cdef class _Batch:
    """The changes of one transaction, with all they borrow."""
    cdef Change *changes
    cdef Py_buffer *buffers
    cdef Py_ssize_t buffers_count
    cdef uint32_t count
    cdef uint32_t room
    cdef uint64_t bytes
    cdef list keys

    def __cinit__(self, reads, writes):
        cdef Py_ssize_t count = len(reads) + len(writes)
        if count > CHANGES_MAX:
            raise InvalidArgument(f"a transaction names {CHANGES_MAX} keys at most, not {count}")
        self.keys = []
        self.room = <uint32_t>count
        self.changes = <Change *>calloc(count + 1, sizeof(Change))
        self.buffers = <Py_buffer *>calloc(count + 1, sizeof(Py_buffer))
        if self.changes == NULL or self.buffers == NULL:
            raise MemoryError
        for key, version in reads.items():
            self.add(key, CHECK).expected = version_of(version)
        for key, value in writes.items():
            if value is DELETE:
                self.add(key, REMOVE)
            else:
                self.borrow(self.add(key, PUT), value)

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.buffers_count):
            PyBuffer_Release(&self.buffers[i])
        free(self.buffers)
        free(self.changes)

    cdef Change *add(self, bytes key, ChangeKind kind) except NULL:
        cdef Change *change
        if key is None:
            raise TypeError("a key is bytes, not None")
        check_key(key)
        if self.count == self.room:
            raise RuntimeError("a mapping gave more items than its length")
        change = &self.changes[self.count]
        self.keys.append(key)
        self.count += 1
        change.kind = kind
        change.key = bytes_at(key)
        change.key_bytes = <uint32_t>PyBytes_GET_SIZE(key)
        change.expected = ANY_VERSION
        return change

    cdef int borrow(self, Change *change, object value) except -1:
        cdef Py_buffer *buffer = &self.buffers[self.buffers_count]
        PyObject_GetBuffer(value, buffer, PyBUF_SIMPLE)
        self.buffers_count += 1
        change.value = <const unsigned char *>buffer.buf
        change.value_bytes = <uint64_t>buffer.len
        self.bytes += change.value_bytes
        return 0

    cdef dict run(self, ObjectStore store):
        cdef uint32_t failed = 0
        cdef uint32_t i
        cdef Moment now = store._now()
        cdef Outcome outcome = changed(store, self.changes, self.count, now, self.bytes, &failed)
        if outcome != OK:
            key = self.keys[failed] if self.count else b""
            refuse(store, outcome, key, &self.changes[failed])
        return {
            self.keys[i]: self.changes[i].version
            for i in range(self.count) if self.changes[i].kind != CHECK
        }

# cython: language_level=3
"""What an object store shows: views of values, snapshots, lists of stats.

Rule: a view or snapshot holds its store's table, so the table outlives all that was got from it;
none can be made by hand. The collector does not see them: what they hold must be there when they
let go, and they hold nothing that could hold them but a store's clock.
"""

from typing import NamedTuple

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from spear._core.objentries cimport (
    CLOCK_MONOTONIC_COARSE, EXPIRED, KEY_BYTES_MAX, OK, SNAPSHOTS_MAX, Blob, Listing, Outcome, Row,
    Snap, blob_metadata, blob_release, blob_value,
)
from spear._core.objsnaps cimport (
    table_close_snapshot, table_get_at, table_list, table_snapshot,
)
from spear._core.objtable cimport clock_ms, table_free

from spear.errors import InvalidArgument, ObjectNotFound, SnapshotExpired, StoreFull, shown

LIST_LIMIT_MAX = 1_000_000


class ObjectStat(NamedTuple):
    """What the store knows of an object beside its value.

    Times are milliseconds of wall time (created: the object, updated: this version). A snapshot's
    list tells size, version, times and metadata as they were then, refs and pinned as they are now,
    and 0 and False for a version that is no longer current.
    """

    key: bytes
    size: int
    version: int
    refs: int
    pinned: bool
    created_ms: int
    updated_ms: int
    metadata: dict


cdef class TableOwner:
    """Holds a table for as long as anything got from it is held."""

    def __dealloc__(self):
        if self.table != NULL:
            table_free(self.table)


cdef int check_key(bytes key) except -1:
    if not 1 <= PyBytes_GET_SIZE(key) <= KEY_BYTES_MAX:
        raise InvalidArgument(
            f"a key has 1 to {KEY_BYTES_MAX} bytes, this one {PyBytes_GET_SIZE(key)}"
        )
    return 0


cdef int64_t age_of(TableOwner store) except? -1:
    if store.clock_ms is None:
        return clock_ms(CLOCK_MONOTONIC_COARSE)
    return store.clock_ms()


cdef dict unpacked(const Blob *blob):
    cdef const unsigned char *at = blob_metadata(blob)
    cdef const unsigned char *stop = at + blob.metadata_bytes
    cdef uint32_t length
    cdef list texts
    if at == stop:
        return {}
    texts = []
    while at < stop:
        memcpy(&length, at, 4)
        texts.append(at[4:4 + length].decode())
        at += 4 + length
    return dict(zip(texts[::2], texts[1::2]))


cdef stat_of(bytes key, const Row *row):
    cdef const Blob *blob = row.blob
    return ObjectStat(
        key, blob.value_bytes, blob.version, row.refs if blob.live else 0,
        bool(row.pinned and blob.live), blob.created_ms, blob.updated_ms, unpacked(blob),
    )


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class ObjectView:
    """A version's value: a read-only buffer, without a copy (`memoryview(view)`, `bytes(view)`).

    Valid as long as it or a buffer of it is held, whatever happens to the key; its bytes count in
    the store's budget until then.
    """

    def __init__(self):
        raise TypeError("an ObjectView comes from ObjectStore.get or Snapshot.get")

    def __dealloc__(self):
        if self.blob != NULL:
            blob_release(self.store.table, self.blob)

    cdef Blob *_held(self) except NULL:
        if self.blob == NULL:
            raise TypeError("this view shows nothing")
        return self.blob

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Blob *blob = self._held()
        PyBuffer_FillInfo(
            buffer, self, <void *>blob_value(blob), <Py_ssize_t>blob.value_bytes, 1, flags
        )

    def __len__(self):
        return <Py_ssize_t>self._held().value_bytes

    def __repr__(self):
        return f"<ObjectView of {self.key!r} at version {self.version}, {len(self)} bytes>"

    @property
    def version(self):
        return self._held().version

    @property
    def metadata(self):
        return unpacked(self._held())


@cython.final
@cython.no_gc
cdef class Snapshot:
    """The whole store as it was at one moment; a context manager, closed when dropped.

    After its maximum age, or where it gave way to a write, get and list raise SnapshotExpired;
    views got before stay valid.
    """

    def __init__(self):
        raise TypeError("a Snapshot comes from ObjectStore.snapshot")

    def __dealloc__(self):
        if self.store is not None:
            with nogil:
                table_close_snapshot(self.store.table, &self.snap)

    cdef int _check(self) except -1:
        if self.store is None or self.closed:
            raise InvalidArgument("the snapshot is closed")
        return 0

    def get(self, bytes key not None):
        """The value as it was; not a use. Raises ObjectNotFound, SnapshotExpired."""
        cdef ObjectView view
        cdef Outcome outcome
        cdef const unsigned char *at = bytes_at(key)
        cdef uint32_t size
        cdef int64_t age_ms
        check_key(key)
        self._check()
        age_ms = age_of(self.store)
        size = <uint32_t>PyBytes_GET_SIZE(key)
        view = ObjectView.__new__(ObjectView)
        view.store = self.store
        view.key = key
        with nogil:
            outcome = table_get_at(self.store.table, &self.snap, at, size, age_ms, True, &view.blob)
        if outcome == EXPIRED:
            raise_expired()
        if outcome != OK:
            raise ObjectNotFound(f"the snapshot has no object {shown(key)}")
        return view

    def list(self, bytes prefix not None=b"", limit=1000, bytes start_after=None):
        """Like ObjectStore.list, as it was. Raises SnapshotExpired."""
        self._check()
        check_limit(limit)
        return listed(self.store, &self.snap, prefix, limit, start_after)

    def close(self):
        """Lets go of what it shows; closing twice is closing."""
        self.closed = True
        if self.store is not None:
            with nogil:
                table_close_snapshot(self.store.table, &self.snap)

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, *exc):
        self.close()


cdef Snapshot snapshot_of(TableOwner store, int64_t deadline_ms, bint yields):
    cdef Snapshot snapshot = Snapshot.__new__(Snapshot)
    cdef Outcome outcome
    with nogil:
        outcome = table_snapshot(store.table, &snapshot.snap, deadline_ms, yields, True)
    if outcome != OK:
        raise StoreFull(f"{SNAPSHOTS_MAX} snapshots are open, close one first")
    snapshot.store = store
    return snapshot


cdef int check_limit(object limit) except -1:
    if not 1 <= limit <= LIST_LIMIT_MAX:
        raise InvalidArgument(f"a limit lies between 1 and {LIST_LIMIT_MAX}, not {limit}")
    return 0


cdef int raise_expired() except -1:
    raise SnapshotExpired(
        "the snapshot is past its maximum age, or gave way to a write that needed its room: take "
        "another"
    )


cdef list listed(TableOwner store, Snap *snap, bytes prefix, Py_ssize_t limit, bytes after):
    """The stats of up to `limit` objects, taken `ROWS` at a time."""
    cdef Listing listing
    cdef list stats = []
    cdef unsigned char *keys = <unsigned char *>malloc(ROWS * (KEY_BYTES_MAX + sizeof(Row)))
    if keys == NULL:
        raise MemoryError
    try:
        listing.prefix = bytes_at(prefix)
        listing.prefix_bytes = <uint32_t>min(PyBytes_GET_SIZE(prefix), KEY_BYTES_MAX + 1)
        listing.keys = keys
        listing.keys_max = ROWS * KEY_BYTES_MAX
        listing.rows = <Row *>(keys + ROWS * KEY_BYTES_MAX)
        listing.complete = False
        while not listing.complete and len(stats) < limit:
            listing.rows_max = <uint32_t>min(limit - len(stats), ROWS)
            after = listed_rows(store, snap, &listing, after, stats)
    finally:
        free(keys)
    return stats


cdef bytes listed_rows(TableOwner store, Snap *snap, Listing *listing, bytes after, list stats):
    """Adds one hold's rows to `stats`; gives the last key."""
    cdef Outcome outcome
    cdef Row *row
    cdef uint32_t i
    cdef int64_t age_ms = age_of(store)
    listing.after = NULL
    listing.after_bytes = 0
    if after is not None:
        listing.after = bytes_at(after)
        listing.after_bytes = <uint32_t>min(PyBytes_GET_SIZE(after), KEY_BYTES_MAX + 1)
    with nogil:
        outcome = table_list(store.table, snap, listing, age_ms, True)
    if outcome != OK:
        raise_expired()
    try:
        for i in range(listing.rows_count):
            row = &listing.rows[i]
            after = PyBytes_FromStringAndSize(<char *>listing.keys + row.key_at, row.key_bytes)
            stats.append(stat_of(after, row))
    finally:
        for i in range(listing.rows_count):
            blob_release(store.table, listing.rows[i].blob)
    return after

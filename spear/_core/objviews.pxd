"""The contract of what a store shows; `ObjectStore` is a TableOwner.

Rule: `TableOwner.table` is used with the functions of `objtable`, by any thread, with or without
the GIL, for as long as the caller keeps a reference to the owner.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t

from spear._core.objentries cimport Blob, Row, Snap, Table


cdef enum:
    ROWS = 64       # listed under one hold of the lock


cdef class TableOwner:
    cdef Table *table
    cdef readonly object clock_ms


cdef class ObjectView:
    cdef Blob *blob
    cdef TableOwner store
    cdef readonly bytes key

    cdef Blob *_held(self) except NULL


cdef class Snapshot:
    cdef Snap snap
    cdef TableOwner store
    cdef bint closed

    cdef int _check(self) except -1


cdef inline const unsigned char *bytes_at(bytes data) noexcept:
    return <const unsigned char *>PyBytes_AS_STRING(data)

cdef int check_key(bytes key) except -1
cdef int check_limit(object limit) except -1
cdef int64_t age_of(TableOwner store) except? -1
cdef object stat_of(bytes key, const Row *row)
cdef list listed(TableOwner store, Snap *snap, bytes prefix, Py_ssize_t limit, bytes after)
cdef Snapshot snapshot_of(TableOwner store, int64_t deadline_ms, bint yields)

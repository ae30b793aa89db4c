"""The contract of snapshots and lists.

Rule: the `table_` functions take the table's lock themselves, the others need it taken.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from spear._core.objentries cimport Blob, Entry, Listing, Outcome, Row, Snap, Table


cdef void retire(Table *table, Entry *entry, uint64_t version) noexcept nogil
cdef bint expire(Table *table, int64_t age_ms, bint full) noexcept nogil
cdef int64_t gain(const Table *table, const Entry *entry) noexcept nogil
cdef bint can_free(Table *table, int64_t wanted) noexcept nogil
cdef bint any_yields(const Table *table) noexcept nogil
cdef int64_t hide_yielding(Table *table) noexcept nogil
cdef void show_yielding(Table *table, Snap *newest) noexcept nogil
cdef Outcome table_snapshot(
    Table *table, Snap *snap, int64_t deadline_ms, bint yields, bint wait
) noexcept nogil
cdef void table_close_snapshot(Table *table, Snap *snap) noexcept nogil
cdef Outcome table_get_at(
    Table *table, Snap *snap, const unsigned char *key, uint32_t key_bytes, int64_t age_ms,
    bint wait, Blob **found
) noexcept nogil
cdef Outcome table_list(
    Table *table, Snap *snap, Listing *listing, int64_t age_ms, bint wait
) noexcept nogil
cdef void row_fill(Row *row, Entry *entry, Blob *blob) noexcept nogil

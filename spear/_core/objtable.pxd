"""The contract of the object table for native callers, with or without the GIL.

Rule: every function takes the table's lock itself and never holds it when it returns; with
`wait = 0` a function gives BUSY instead of waiting (for callers that hold the GIL). A Blob got from
`table_get` is the caller's until `objentries.blob_release`; its value, metadata and version never
change. The table belongs to an `objstore.ObjectStore`, which the caller keeps alive.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from spear._core.objentries cimport (
    CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE, __ATOMIC_RELAXED, __atomic_load_n, Blob, Change,
    Figures, Moment, Outcome, Row, Table, clock_gettime, timespec,
)


cdef inline int64_t clock_ms(int clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return t.tv_sec * 1000 + t.tv_nsec // 1000000

cdef inline Moment moment_now(Table *table) noexcept nogil:
    """The machine's time, to the kernel's tick (4 ms), for callers whose clock is not injected."""
    cdef Moment now
    now.wall_ms = clock_ms(CLOCK_REALTIME_COARSE)
    now.age_ms = 0
    if __atomic_load_n(&table.snapshots, __ATOMIC_RELAXED) != 0:
        now.age_ms = clock_ms(CLOCK_MONOTONIC_COARSE)
    return now


cdef Table *table_new(int64_t bytes_max, uint64_t epoch, const uint64_t *secret) noexcept nogil
cdef void table_free(Table *table) noexcept nogil
cdef Outcome table_change(
    Table *table, Change *changes, uint32_t count, Moment now, bint wait, uint32_t *failed
) noexcept nogil
cdef Outcome table_get(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint wait, Blob **found
) noexcept nogil
cdef Outcome table_stat(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint wait, Row *found
) noexcept nogil
cdef Outcome table_refs(
    Table *table, const unsigned char *key, uint32_t key_bytes, int64_t add, int64_t expected,
    bint wait, int32_t *refs, uint64_t *actual
) noexcept nogil
cdef Outcome table_pin(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint pinned, int64_t expected,
    bint wait, uint64_t *actual
) noexcept nogil
cdef void table_figures(Table *table, int64_t age_ms, Figures *into) noexcept nogil

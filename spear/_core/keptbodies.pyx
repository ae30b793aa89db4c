"""The last results whose descriptors a guest closed, which it may read until it ends.

Rule: at most KEPT_MAX, and at most KEPT_BYTES_MAX bytes together, but the very last one however
large it is. Its guest's thread only.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove

from spear._core.drafts cimport room_release
from spear._core.nativehandles cimport handle_release, handle_retain, handle_t


cdef kept_t *kept_new() noexcept nogil:
    return <kept_t *>calloc(1, sizeof(kept_t))


cdef int64_t _bytes(const handle_t *handle) noexcept nogil:
    return <int64_t>handle.body_size + handle.about_size


cdef void _drop_oldest(kept_t *kept) noexcept nogil:
    kept.bytes -= _bytes(kept.handles[0])
    handle_release(kept.handles[0])
    kept.count -= 1
    memmove(&kept.numbers[0], &kept.numbers[1], kept.count * sizeof(kept.numbers[0]))
    memmove(&kept.handles[0], &kept.handles[1], kept.count * sizeof(kept.handles[0]))


cdef void kept_free(kept_t *kept) noexcept nogil:
    cdef uint32_t at
    for at in range(kept.count):
        handle_release(kept.handles[at])
    if kept.room != NULL:
        room_release(kept.room)
    free(kept)


cdef void kept_add(kept_t *kept, int32_t number, handle_t *handle) noexcept nogil:
    while kept.count > 0 and (
            kept.count == KEPT_MAX or kept.bytes + _bytes(handle) > KEPT_BYTES_MAX):
        _drop_oldest(kept)
    handle_retain(handle)
    kept.numbers[kept.count], kept.handles[kept.count] = number, handle
    kept.count += 1
    kept.bytes += _bytes(handle)


cdef handle_t *kept_find(kept_t *kept, int32_t number) noexcept nogil:
    cdef uint32_t at
    for at in range(kept.count):
        if kept.numbers[at] == number:
            return kept.handles[at]
    return NULL

"""Results that a guest may read though it closed their descriptors; see keptbodies.pyx."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from spear._core.drafts cimport room_t
from spear._core.nativehandles cimport handle_t

cdef enum:
    KEPT_MAX = 64
    KEPT_BYTES_MAX = 16 << 20


cdef struct kept_t:
    uint32_t count
    int64_t bytes
    room_t *room                   # of the guest's sessions, retained; NULL: it has had none
    int32_t numbers[KEPT_MAX]      # of the descriptors they had, the oldest first
    handle_t *handles[KEPT_MAX]    # retained


# NULL: no memory.
cdef kept_t *kept_new() noexcept nogil
cdef void kept_free(kept_t *kept) noexcept nogil
# One that is finished; the oldest go where there are too many.
cdef void kept_add(kept_t *kept, int32_t number, handle_t *handle) noexcept nogil
# NULL: it is not kept, or no longer.
cdef handle_t *kept_find(kept_t *kept, int32_t number) noexcept nogil

"""The contract of the queues for native modules: C functions without the GIL, safe from any thread.

Every function takes the queue's own lock for as long as one batch lasts and never touches a Python
object, so threads with and without the GIL may meet here. Items are u64 handles; the queue does
not know what they name.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass

cdef enum:
    LEVELS = 256               # priorities; 0 is served first
    LEVEL_WORDS = 4            # of the bitmap over them
    SEGMENT_HANDLES = 62       # with its link 512 bytes less one word: an allocator's size class


cdef enum PushResult:
    PUSHED = 0
    PUSH_FULL = 1              # over the capacity
    PUSH_NO_MEMORY = 2
    PUSH_DUPLICATE = 3         # due queue only: the handle is queued already


cdef struct Segment:
    Segment *next
    uint64_t handles[SEGMENT_HANDLES]


cdef struct Level:
    Segment *head              # NULL when the level is empty
    Segment *tail
    uint32_t start             # first taken place in head
    uint32_t end               # first free place in tail
    size_t size


cdef struct run_queue:
    pthread_mutex_t lock
    size_t capacity
    size_t size
    uint64_t occupied[LEVEL_WORDS]    # one bit a level
    Segment *spare
    size_t spare_size
    Level levels[LEVELS]


# NULL when there is no memory; the owner frees it after the last user is gone.
cdef run_queue *run_queue_new(size_t capacity) noexcept nogil
cdef void run_queue_free(run_queue *queue) noexcept nogil
# All `n` handles or none; `priority` must be below LEVELS.
cdef PushResult run_queue_push(
    run_queue *queue, const uint64_t *handles, size_t n, uint32_t priority) noexcept nogil
# How many were written to `out`, at most `n`: lowest priority number first, FIFO among equals.
cdef size_t run_queue_pop(run_queue *queue, uint64_t *out, size_t n) noexcept nogil
# The same for one handle of the first level in use from `level[0]` on, around the end; `level[0]`
# becomes the one behind that. False if the queue is empty.
cdef bint run_queue_pop_from(run_queue *queue, uint32_t *level, uint64_t *out) noexcept nogil
cdef size_t run_queue_size(run_queue *queue) noexcept nogil


cdef struct DueEntry:
    int64_t deadline_ns
    uint64_t sequence
    uint64_t handle


cdef struct DueCell:
    uint64_t handle
    uint64_t sequence          # of the handle's one live entry; 0: the cell is empty


cdef struct due_queue:
    pthread_mutex_t lock
    size_t capacity
    size_t live                # handles queued
    uint64_t sequence
    DueEntry *heap             # 4-ary, cancelled entries included
    size_t used
    size_t room
    DueCell *cells             # open addressing, at most half full
    size_t mask


cdef due_queue *due_queue_new(size_t capacity) noexcept nogil
cdef void due_queue_free(due_queue *queue) noexcept nogil
# All `n` or none; on PUSH_DUPLICATE `*fault` is the index of the handle that was queued already.
cdef PushResult due_queue_push(
    due_queue *queue, const uint64_t *handles, const int64_t *deadlines_ns, size_t n,
    size_t *fault) noexcept nogil
# Whether the handle was queued; from then on it is not.
cdef bint due_queue_cancel(due_queue *queue, uint64_t handle) noexcept nogil
# How many handles with a deadline of at most `now_ns` were written to `out`, earliest first.
cdef size_t due_queue_pop(
    due_queue *queue, int64_t now_ns, uint64_t *out, size_t n) noexcept nogil
# Whether there is a deadline at all; if so it is written to `deadline_ns`.
cdef bint due_queue_next(due_queue *queue, int64_t *deadline_ns) noexcept nogil
cdef size_t due_queue_size(due_queue *queue) noexcept nogil


cdef class RunQueue:
    cdef run_queue *native     # lives as long as the object

    cdef int push_words(self, const uint64_t *handles, size_t n, object priority) except -1


cdef class DueQueue:
    cdef due_queue *native     # lives as long as the object

    cdef int push_words(
        self, const uint64_t *handles, const int64_t *deadlines_ns, size_t n
    ) except -1

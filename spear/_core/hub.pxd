"""The native half of a completion hub; see hub.pyx."""

from libc.stdint cimport int64_t

ctypedef void (*release_t)(void *what) noexcept nogil


cdef struct note_t:                # something happened to `what`
    note_t *next
    void *what
    release_t release              # lets go of `what`


cdef struct hub_t:                 # what one event loop is to be told
    int64_t refs
    int fd                         # eventfd, written when the list was empty
    void *head                     # note_t list, newest first


cdef struct backlog_t:             # notes that were taken and not looked at
    note_t *oldest
    note_t *newest


cdef hub_t *hub_new() noexcept nogil
cdef void hub_retain(hub_t *hub) noexcept nogil
cdef void hub_release(hub_t *hub) noexcept nogil
# Takes over one reference to `what`. False: no memory, and the reference is let go.
cdef bint hub_push(hub_t *hub, void *what, release_t release) noexcept nogil
# A note for later, without a reference yet; NULL: no memory.
cdef note_t *note_new(void *what, release_t release) noexcept nogil
# As hub_push, with a note that is there already, and so without fail.
cdef void hub_post(hub_t *hub, note_t *note) noexcept nogil
# Takes the whole list; the caller frees each note and lets go of its `what`.
cdef note_t *hub_take(hub_t *hub) noexcept nogil
# Takes the whole list in order, behind what the backlog has already.
cdef void hub_collect(hub_t *hub, backlog_t *backlog) noexcept nogil
# What the oldest note is about, with its reference; NULL if there is none.
cdef void *backlog_pop(backlog_t *backlog) noexcept nogil
# The loop is to look once more; needs no memory.
cdef void hub_ring(hub_t *hub) noexcept nogil
# Makes the eventfd quiet until the next push into an empty list.
cdef void hub_quiet(hub_t *hub) noexcept nogil

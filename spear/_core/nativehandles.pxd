"""What stands behind a descriptor that Python answers for: its result, once there is one.

A handle is counted. Its maker, its descriptor, a call that names it and the last bodies that a
guest may still read hold a reference each. Only the thread that has the guest opens and closes it;
any thread finishes it.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from spear._core.channels cimport bell_t, channel_t
from spear._core.descriptors cimport fd_ops
from spear._core.drafts cimport drafts_t
from spear._core.hub cimport hub_t, note_t
from spear._core.sync cimport pthread_mutex_t

cdef enum Topic:                   # what a note to the door is about: it begins with this number
    TOPIC_REQUEST = 0
    TOPIC_HANDLE = 1


cdef struct handle_t:
    int32_t topic                  # TOPIC_HANDLE
    uint8_t kind                   # FdKind
    int64_t refs
    void *face                     # Python's Handle, kept while it is open; NULL: it has no part
    drafts_t *drafts               # of a session that was opened natively, owned, else NULL
    hub_t *hub                     # where its closing is told, borrowed
    note_t *note                   # ready for that; NULL: it was closed, or never opened
    channel_t *channel             # of a stream, else NULL

    pthread_mutex_t lock           # of what follows
    bell_t *bell                   # of the guest, from its opening on
    bint closed                    # nobody can name it any more
    bint finished                  # then nothing below changes any more
    int32_t status                 # 0, or a negated number of the ABI
    uint8_t *body                  # owned
    uint32_t body_size
    uint8_t *about                 # owned: a JSON document
    uint32_t about_size


# NULL: no memory. Takes a reference to the channel.
cdef handle_t *handle_new(uint8_t kind, channel_t *channel, void *face) noexcept nogil
cdef void handle_retain(handle_t *handle) noexcept nogil
cdef void handle_release(handle_t *handle) noexcept nogil
# Has its closing told there, once; takes a reference, which goes with that note. False: no memory.
cdef bint handle_promise(handle_t *handle, hub_t *hub) noexcept nogil
# Python has a face for it from here on, and holds a reference; whether its closing will be told.
cdef bint handle_adopt(handle_t *handle, void *face) noexcept nogil
# Nobody reads it any more: what was promised is told, and the promise's reference goes along.
cdef void handle_close(handle_t *handle) noexcept nogil
# From here on it rings for the guest that has it.
cdef void handle_bind(handle_t *handle, bell_t *bell) noexcept nogil
# Takes `body` and `about` over, made by malloc, in any case. False: it was finished before.
cdef bint handle_finish(
    handle_t *handle, int32_t status, uint8_t *body, uint32_t body_size, uint8_t *about,
    uint32_t about_size) noexcept nogil
cdef bint handle_finished(handle_t *handle) noexcept nogil
# What a descriptor of this kind does; NULL: it is no kind of handles. A promise goes into the
# descriptor that is opened with it.
cdef const fd_ops *handle_ops(uint8_t kind) noexcept nogil
# How many there are in this process.
cdef int64_t handles_live() noexcept nogil

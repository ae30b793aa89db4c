"""What guests put into chat sessions and Python has not taken yet; see drafts.pyx.

A room is counted: its guest, each session of that guest and Python's face of it hold a reference.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cdef enum DraftKind:
    DRAFT_MESSAGE = 0              # a role, a content
    DRAFT_SETTING = 1              # a JSON text, and nothing

cdef struct room_t:                # what all sessions of one execution hold together
    int64_t refs
    int64_t taken                  # bytes, atomic

cdef struct draft_t:
    draft_t *next
    int64_t charge                 # of the room
    uint8_t kind                   # DraftKind
    uint32_t first_size
    uint32_t second_size           # of what follows the first; both stand behind this

cdef struct drafts_t:              # of one session: its guest's thread adds while that runs, Python
    room_t *room                   # takes while the guest waits for a call
    draft_t *first
    draft_t *last
    int32_t left                   # how many more until Python has looked


cdef room_t *room_new() noexcept nogil
cdef void room_retain(room_t *room) noexcept nogil
cdef void room_release(room_t *room) noexcept nogil

# NULL: no memory. Takes a reference to the room.
cdef drafts_t *drafts_new(room_t *room) noexcept nogil
# With all that nobody took, whose room is free then.
cdef void drafts_free(drafts_t *drafts) noexcept nogil
# False: it is to go to Python instead, which says what it lacks: it is no UTF-8 or not plain, there
# is no room for it, or Python is to look first.
cdef bint draft_message(
    drafts_t *drafts, const uint8_t *role, uint32_t role_size, const uint8_t *content,
    uint32_t content_size) noexcept nogil
cdef bint draft_setting(drafts_t *drafts, const uint8_t *text, uint32_t size) noexcept nogil


cdef class Room:
    cdef room_t *native
    cdef public int64_t streamed

cdef Room room_of(room_t *native)
# As a list of (kind, first, second, what a message counts in a session's `bytes`); their room is
# free, and `left` more may come.
cdef list drafts_take(drafts_t *drafts, int32_t left)


cdef class Drafts:
    cdef drafts_t *native

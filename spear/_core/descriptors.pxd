"""The descriptor table of one guest, and its epoll instances.

Only the thread that has the guest in state RUNNING uses a table, so it has no lock; what a
descriptor looks at (channels) may change at any time. Results below 0 are negated numbers of the
ABI.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef enum:
    FD_FIRST = 1000
    FDS_EVER_MAX = 1 << 20     # numbers a table gives out; then -ENOMEM
    EPOLL_IN = 0x001
    EPOLL_OUT = 0x004
    EPOLL_ERR = 0x008
    EPOLL_HUP = 0x010
    EPOLL_ADD = 1
    EPOLL_MOD = 2
    EPOLL_DEL = 3

cdef enum FdKind:
    FD_CHAT_SESSION = 1
    FD_CHAT_RESPONSE = 2
    FD_EPOLL = 3
    FD_RTASR = 4
    FD_MIC = 5
    FD_USER_STREAM = 6
    FD_USER_STREAM_CTL = 7
    FD_CHAT_STREAM = 8
    FD_TASK_CALL = 9


cdef packed struct fd_mark:    # all that stays of a closed descriptor
    uint32_t note              # what its kind wants to remember, such as a stream's id
    uint8_t kind               # FdKind
    uint8_t flags              # FD_CLOSED, FD_NONBLOCK
    uint8_t detail             # what its kind wants to remember, such as a direction

cdef enum FdFlag:
    FD_CLOSED = 1
    FD_NONBLOCK = 2


cdef struct descriptor_t:      # an open one
    int32_t number
    uint8_t detail             # as in its mark
    const fd_ops *ops
    void *object               # owned


cdef struct fd_ops:            # what a kind does; one constant a kind
    uint8_t kind
    uint32_t (*poll)(const descriptor_t *descriptor) noexcept nogil    # NULL: never ready
    void (*release)(descriptor_t *descriptor) noexcept nogil           # NULL: nothing to free


cdef struct watch_entry:
    int32_t fd
    uint8_t events             # asked for
    uint8_t ready              # found by the last scan


cdef struct epoll_t:
    fd_table *table
    watch_entry *watches       # by fd, ascending
    uint32_t count
    uint32_t room


cdef struct fd_table:
    fd_mark *marks             # of every number given out
    uint32_t given
    uint32_t marks_room
    descriptor_t *open         # by number, ascending
    uint32_t open_count
    uint32_t open_room
    uint32_t open_max
    uint32_t watched           # over all epoll instances


cdef fd_table *fd_table_new(uint32_t open_max) noexcept nogil
# Closes all that is open.
cdef void fd_table_free(fd_table *table) noexcept nogil
# The new descriptor's number, or -ENOMEM, and then the object stays the caller's.
cdef int32_t fd_open(
    fd_table *table, const fd_ops *ops, void *object, uint32_t note, uint8_t detail) noexcept nogil
# An open descriptor of this kind (0: any), valid until the next call of fd_open or fd_close; NULL
# if there is none. The table may be NULL.
cdef descriptor_t *fd_find(fd_table *table, int32_t number, int kind) noexcept nogil
# Of any number that was ever given out; NULL otherwise. The table may be NULL.
cdef fd_mark *fd_marked(fd_table *table, int32_t number) noexcept nogil
# 0, also if it is closed already; -EBADF if it is of none of these kinds (bit n: kind n).
cdef int32_t fd_close(fd_table *table, int32_t number, uint32_t kinds) noexcept nogil
# Readiness of any known descriptor.
cdef uint32_t fd_poll(fd_table *table, int32_t number) noexcept nogil

cdef int32_t epoll_open(fd_table *table) noexcept nogil
cdef int32_t epoll_control(
    fd_table *table, int32_t number, int32_t op, int32_t fd, int32_t events) noexcept nogil
# Looks at all that is watched and marks the first `count_max` that are ready; how many those are.
cdef uint32_t epoll_scan(epoll_t *epoll, uint32_t count_max) noexcept nogil
# Writes a record of 8 bytes for each one marked by the last scan.
cdef void epoll_write(const epoll_t *epoll, uint8_t *out) noexcept nogil

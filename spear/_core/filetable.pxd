"""A guest's WASI descriptors: streams, granted directories, and what was opened beneath them.

A table is its guest's alone and belongs to whoever runs it; a grant is counted and never changes.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    DESCRIPTORS_MAX = 1024     # of a guest, unless a run says otherwise

cdef enum FileKind:            # WASI's file types
    FILE_FREE = 0
    FILE_STREAM = 2            # a character device
    FILE_DIRECTORY = 3
    FILE_REGULAR = 4

cdef struct grant_t:
    int64_t refs
    int32_t fd                 # only to open beneath it
    bint writable
    uint32_t name_size
    char name[1]               # `name_size` bytes and a NUL: what the guest calls it

cdef struct file_t:
    uint8_t kind
    uint8_t stream             # 0, 1 or 2
    bint writable              # its grant is
    int32_t fd                 # the host's; the grant's own until the guest reads its entries
    grant_t *grant             # of a granted directory itself, counted
    uint16_t flags             # WASI's, as the guest set them
    uint64_t rights
    uint64_t inheriting        # what it may give to what is opened beneath it

cdef struct file_table_t:
    file_t *files
    int32_t room
    int32_t room_max
    int32_t free_from          # no number from 3 to here is free

cdef grant_t *grant_retain(grant_t *grant) noexcept nogil
cdef void grant_release(grant_t *grant) noexcept nogil

# The three streams, and room for `room_max` descriptors in all; NULL: no memory.
cdef file_table_t *file_table_new(int32_t room_max) noexcept nogil
# Closes all.
cdef void file_table_free(file_table_t *table) noexcept nogil
# NULL if it is not open. Of no table: the streams, which must not be changed then. Valid until
# `file_add`.
cdef file_t *file_at(file_table_t *table, int32_t number) noexcept nogil
# Takes `file` over; its number, or a negated error: then it is closed.
cdef int32_t file_add(file_table_t *table, file_t *file) noexcept nogil
# The granted directory's next number, or a negated error.
cdef int32_t file_add_grant(file_table_t *table, grant_t *grant) noexcept nogil
cdef void file_drop(file_table_t *table, file_t *file) noexcept nogil
# What `source` was is now `target`, which is closed; its own number is free.
cdef void file_move(file_table_t *table, file_t *source, file_t *target) noexcept nogil

# A descriptor to be kept in a table, of what `path` names beneath `dir`; or a negated error.
cdef int32_t file_open(int32_t dir, const char *path, int flags, int mode) noexcept nogil
cdef void file_close(int32_t fd) noexcept nogil
# The descriptor itself, for what a grant's cannot do: reading entries, syncing.
cdef int32_t file_own(file_t *file) noexcept nogil


cdef class Directory:
    cdef grant_t *grant
    cdef readonly str host, guest


# The table of a run with these directories, which must have names of their own; NULL: without any.
cdef file_table_t *file_table_of(dirs, int32_t room_max) except? NULL

"""The JSON of spear_fd_ctl; see fdjson.pyx."""

from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef enum:
    FLAGS_BYTES_MAX = 4096     # of a SET_FLAGS document
    STATUS_BYTES_MAX = 256     # of what is written here


cdef struct flag_change:
    bint valid                 # the document is JSON of the right form
    bint set_nonblock
    bint clear_nonblock


# {"set":["O_NONBLOCK"],"clear":[...]}; other names and other keys are passed over.
cdef flag_change flags_read(const uint8_t *data, uint32_t size) noexcept nogil
# Each writes at most STATUS_BYTES_MAX bytes and gives how many; `flags` are those of a mark.
cdef int32_t flags_write(char *out, uint8_t flags) noexcept nogil
cdef int32_t kind_write(char *out, uint8_t kind) noexcept nogil
cdef int32_t status_write(char *out, uint8_t kind, uint8_t flags, uint32_t mask) noexcept nogil

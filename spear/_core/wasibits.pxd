"""What the files of WASI share: its error numbers, and small reads that every call begins with."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from spear._core.guest cimport guest_t
from spear._core.sync cimport load32

cdef enum:
    ESUCCESS = 0
    EBADF = 8
    EFAULT = 21
    EINVAL = 28
    ENOSYS = 52
    ENOTSOCK = 57
    ENOTSUP = 58
    ESPIPE = 70
    CLOCK_REALTIME = 0
    CLOCK_THREAD_CPU = 3       # the last clock there is


# Whether the guest's end was asked for.
cdef inline bint wasi_doomed(guest_t *guest) noexcept nogil:
    return load32(&guest.kill) != 0


# Descriptors 0, 1 and 2, until the guest closes them.
cdef inline bint wasi_open(guest_t *guest, int32_t fd) noexcept nogil:
    return 0 <= fd <= 2 and not guest.closed >> fd & 1


cdef inline uint32_t u32_at(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t u64_at(const uint8_t *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value

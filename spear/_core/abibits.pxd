"""What the files of the guest ABI share: its error numbers, and how bytes cross the border.

Rule: everything here checks before it touches memory; a negative pointer or length is outside.
Source: the guest ABI, section 1.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from spear._core.engineapi cimport wasmtime_caller_t, wasmtime_val_raw_t
from spear._core.guest cimport guest_span, guest_t

cdef enum:
    EPERM = 1
    ENOENT = 2
    EIO = 5
    EBADF = 9
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EBUSY = 16
    EEXIST = 17
    EINVAL = 22
    ENOSPC = 28
    EPIPE = 32
    ENOSYS = 38
    ECONNRESET = 104
    ENOTCONN = 107
    ETIMEDOUT = 110
    ESTALE = 116


# `size` bytes of the guest's memory at `at`, valid until the guest runs again; NULL if not inside.
cdef inline uint8_t *abi_span(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, int32_t size
) noexcept nogil:
    if at < 0 or size < 0:
        return NULL
    return guest_span(guest, caller, <uint32_t>at, <uint64_t>size)


# "len in/out": copies `size` bytes to `out_at` where they fit into the room that the u32 at
# `len_at` states, and writes the size there. Gives the size, -ENOSPC (nothing but the size is
# written) or -EFAULT. `caller` is NULL for a guest that waits; `data` may be where `size` is 0.
cdef inline int32_t abi_give(
    guest_t *guest, wasmtime_caller_t *caller, const void *data, uint32_t size, int32_t out_at,
    int32_t len_at
) noexcept nogil:
    cdef uint32_t room
    cdef uint8_t *length = abi_span(guest, caller, len_at, 4)
    cdef uint8_t *out
    if length == NULL:
        return -EFAULT
    memcpy(&room, length, 4)
    if size > room:
        memcpy(length, &size, 4)
        return -ENOSPC
    out = abi_span(guest, caller, out_at, <int32_t>size)
    if out == NULL:
        return -EFAULT
    if size > 0:
        memcpy(out, data, size)
    memcpy(length, &size, 4)
    return <int32_t>size


# A call that answers in place with an i32; its arguments are `values`.
ctypedef int32_t (*answer_t)(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil

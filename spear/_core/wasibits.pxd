"""What the files of WASI share: how a call answers, and small reads that every call begins with."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from spear._core.engineapi cimport wasmtime_caller_t, wasmtime_val_raw_t
from spear._core.filetable cimport FILE_STREAM, file_at, file_t
from spear._core.guest cimport guest_span, guest_t
from spear._core.sync cimport load32
from spear._core.wasinumbers cimport EFAULT, ESUCCESS

# How a call answers in place: the error number, from the raw arguments.
ctypedef int32_t (*wasi_answer_t)(
    guest_t *, wasmtime_caller_t *, wasmtime_val_raw_t *) noexcept nogil
# Adds a call to the import table: its name, its parameters as in imports.pxd.
ctypedef void (*wasi_row_t)(const char *, const char *, wasi_answer_t) noexcept


# Whether the guest's end was asked for.
cdef inline bint wasi_doomed(guest_t *guest) noexcept nogil:
    return load32(&guest.kill) != 0


# Open descriptors; NULL for any other.
cdef inline file_t *wasi_file(guest_t *guest, int32_t fd) noexcept nogil:
    return file_at(guest.files, fd)


cdef inline bint wasi_stream(guest_t *guest, int32_t fd) noexcept nogil:
    cdef file_t *file = wasi_file(guest, fd)
    return file != NULL and file.kind == FILE_STREAM


# ESUCCESS once `value` stands in the guest's memory, else EFAULT.
cdef inline int32_t wasi_give(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, const void *value, uint64_t size
) noexcept nogil:
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>at, size)
    if out == NULL:
        return EFAULT
    memcpy(out, value, size)
    return ESUCCESS


cdef inline uint32_t u32_at(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t u64_at(const uint8_t *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value

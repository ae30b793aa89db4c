"""Hostcalls of user streams; see hoststreams.pyx."""

from libc.stdint cimport int32_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t
from spear._core.streams cimport streams_t

cdef enum:
    METRICS_BYTES_MAX = 512

# The hub of the guest's streams, made when first asked for, by any thread; NULL: no memory.
cdef streams_t *guest_streams(guest_t *guest) noexcept nogil
# fd_ctl's GET_METRICS of a descriptor, closed or not: at most METRICS_BYTES_MAX bytes.
cdef int32_t stream_metrics(guest_t *guest, int32_t number, char *out) noexcept nogil
cdef int32_t stream_ctl_metrics(guest_t *guest, int32_t number, char *out) noexcept nogil

cdef int32_t user_stream_open(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t user_stream_read(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t user_stream_write(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t user_stream_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t user_stream_ctl_open(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t user_stream_ctl_read(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil

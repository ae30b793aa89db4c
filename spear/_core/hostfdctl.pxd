"""The hostcall spear_fd_ctl; see hostfdctl.pyx."""

from libc.stdint cimport int32_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t

cdef int32_t spear_fd_ctl(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil

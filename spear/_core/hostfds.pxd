"""Hostcalls of epoll, and what every kind of descriptor needs; see hostfds.pyx."""

from libc.stdint cimport int32_t

from spear._core.channels cimport bell_t, channel_t
from spear._core.descriptors cimport fd_table
from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t

# The guest's bell, made when first asked for, by any thread; NULL: no memory.
cdef bell_t *guest_bell(guest_t *guest) noexcept nogil
# The guest's table, made at its first descriptor; NULL: no memory. The owner's thread only.
cdef fd_table *guest_fds(guest_t *guest) noexcept nogil
# Reads one message of a channel into the guest's memory ("len in/out"), which must have room for
# it: -ENOSPC and -EFAULT leave it where it is. -EAGAIN if there is none.
cdef int32_t abi_read(
    guest_t *guest, wasmtime_caller_t *caller, channel_t *channel, int32_t out_at, int32_t len_at
) noexcept nogil

cdef int32_t spear_epoll_create(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t spear_epoll_ctl(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t spear_epoll_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef void spear_epoll_wait(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil

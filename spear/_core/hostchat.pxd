"""Hostcalls of chat that are answered in place, wholly or in part; see hostchat.pyx."""

from libc.stdint cimport int32_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t

cdef int32_t cchat_recv(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t cchat_stream_read(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t cchat_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
# A new session, and a message for it: in place where sessions take drafts and nothing is to be
# said; else posted, by the row that is `env`.
cdef void cchat_create(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil
cdef void cchat_write_msg(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil
# SET_PARAM of a session is posted, unless it is a draft, by the row that is `env`.
cdef void cchat_ctl(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil

"""Hostcalls of task calls that are answered in place; see hosttasks.pyx."""

from libc.stdint cimport int32_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t

cdef void task_wait(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil
cdef int32_t task_result(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t task_status(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil
cdef int32_t task_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil

"""The contract of WASI's clocks and waiting; see wasipoll.pyx."""

from libc.stdint cimport int32_t, int64_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t

cdef int64_t wasi_clock_now(guest_t *guest, int32_t clock) noexcept nogil
cdef void wasi_poll_oneoff(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil
cdef void wasi_sched_yield(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation) noexcept nogil

"""Lets a hostcall that is answered in place wait after all, in the midst of its work.

Rule: only on the guest's fiber. A row that may wait (`park`) costs each of its calls ten times what
one answered in place does, so a call that seldom waits is of the second kind, and here calls a
function that waits: the host's own, under a name that no guest can import. The C frames of the
hostcall stay on the fiber meanwhile, so it must keep nothing that belongs to a thread, as another
may go on with it; and no pointer into the guest's memory is of use to who comes back without it.
"""

from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *

wasmtime_bind(engineapi.functions())

cdef const char *_MODULE = b"host"
cdef const char *_NAME = b"wait"


cdef void _wait(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    """args: `ready` and its `env`."""
    guest_park(
        guest_of(caller), INT64_MAX, <wasmtime_ready_t><void *>args[0].of.i64, continuation)
    continuation.env = <void *>args[1].of.i64


cdef wasmtime_error_t *inner_wait_link(wasmtime_linker_t *linker) noexcept:
    cdef wasm_valtype_vec_t sides[2]
    cdef wasm_valtype_t *types[2]
    cdef wasm_functype_t *type
    cdef wasmtime_error_t *error
    types[0], types[1] = wasm_valtype_new(WASMTIME_KIND_I64), wasm_valtype_new(WASMTIME_KIND_I64)
    wasm_valtype_vec_new(&sides[0], 2, types)
    wasm_valtype_vec_new(&sides[1], 0, NULL)
    type = wasm_functype_new(&sides[0], &sides[1])
    error = wasmtime_linker_define_async_func(linker, _MODULE, 4, _NAME, 4, type, _wait, NULL, NULL)
    wasm_functype_delete(type)
    return error


cdef bint guest_can_wait(guest_t *guest) noexcept nogil:
    return guest.future != NULL


cdef wasmtime_func_t *_waiter(guest_t *guest) noexcept nogil:
    """Taken from the linker once a store, where each such function stays until the store goes."""
    cdef guest_t *owner = guest if guest.warm == NULL else guest.warm
    cdef wasmtime_extern_t item
    if owner.inner_wait.store_id == 0:
        if not wasmtime_linker_get(
                owner.linker, guest.context, _MODULE, 4, _NAME, 4, &item):
            return NULL
        owner.inner_wait = item.of.func
    return &owner.inner_wait


cdef bint guest_wait(guest_t *guest, wasmtime_ready_t ready, void *env) noexcept nogil:
    cdef wasmtime_val_raw_t values[2]
    cdef wasm_trap_t *trap = NULL
    cdef wasmtime_error_t *error = NULL
    cdef wasmtime_func_t *waiter = _waiter(guest)
    memset(values, 0, sizeof(values))
    values[0].i64, values[1].i64 = <int64_t><void *>ready, <int64_t>env
    if waiter != NULL:
        error = wasmtime_func_call_unchecked(guest.context, waiter, values, 2, &trap)
    if waiter != NULL and error == NULL and trap == NULL:
        return True
    if error != NULL:
        wasmtime_error_delete(error)
    if trap != NULL:
        wasm_trap_delete(trap)
    guest_doom(guest, CAUSE_CANCELLED)     # the first cause stays; every hostcall looks for one
    return False

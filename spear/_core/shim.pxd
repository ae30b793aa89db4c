"""The contract of the shim, by which a guest's send calls the guest's own tools; see shim.pyx."""

from libc.stdint cimport int32_t, int64_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t
from spear._core.imports cimport posted_row
from spear._core.sync cimport pthread_mutex_t

cdef enum:
    SENDS_MAX = 8                  # one inside another


cdef struct shim_t:                # of one engine and one import that re-enters
    pthread_mutex_t lock           # of the linker
    wasmtime_linker_t *linker      # all that guests import; the send is redefined for each
    wasmtime_module_t *code
    wasmtime_instance_pre_t *pre   # of the shim itself
    const posted_row *row


# Takes the linker over, in which everything but the send is defined. NULL, and `*error`.
cdef shim_t *shim_new(
    wasm_engine_t *engine, wasmtime_linker_t *linker, const posted_row *row,
    wasmtime_error_t **error) except? NULL
cdef void shim_free(shim_t *shim) noexcept

# Makes the guest's own shim in its store and links the guest to it: see guest.own_pre. False: see
# guest.trap and guest.error.
cdef bint shim_begin(guest_t *guest) noexcept nogil
# The guest is instantiated, or never will be.
cdef void shim_settle(guest_t *guest) noexcept nogil

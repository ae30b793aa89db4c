"""The contract of waits inside a hostcall that is answered in place; see innerwaits.pyx."""

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t

# What waits, for a linker that is being filled.
cdef wasmtime_error_t *inner_wait_link(wasmtime_linker_t *linker) noexcept

# Whether the guest runs on a fiber, as it does but in a warm instance's call in place.
cdef bint guest_can_wait(guest_t *guest) noexcept nogil
# Waits, on its fiber only, until `ready(env)`, which sets `parking` with each False. False: the
# guest has ended meanwhile, and the hostcall has only to let go of what it has: what it answers is
# a trap.
cdef bint guest_wait(guest_t *guest, wasmtime_ready_t ready, void *env) noexcept nogil

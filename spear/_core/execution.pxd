"""One guest's way through the engine: begin, poll, end; see execution.pyx."""

from spear._core.guest cimport guest_t

# Runs the guest until it ends (True), waits or used its slice (False).
cdef bint execution_poll(guest_t *guest) noexcept nogil
# Frees all that the engine holds for it and settles how it ended.
cdef void execution_end(guest_t *guest) noexcept nogil
# Makes the store and the instance on this thread, without a call. False: see trap, error, kill.
cdef bint execution_prepare(guest_t *guest) noexcept nogil

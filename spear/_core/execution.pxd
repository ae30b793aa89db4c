"""One guest's way through the engine: begin, poll, end; see execution.pyx."""

from libc.stdint cimport int64_t

from spear._core.guest cimport guest_t

# Runs the guest until it ends (True), waits or used its slice (False).
cdef bint execution_poll(guest_t *guest) noexcept nogil
# Frees all that the engine holds for it and settles how it ended; `now` of the machine's clock.
cdef void execution_end(guest_t *guest, int64_t now) noexcept nogil
# Closes the descriptors of a call in place, which are no longer than it.
cdef void execution_empty(guest_t *guest) noexcept nogil
# Frees its store, whoever still could enter it.
cdef void execution_free(guest_t *guest) noexcept nogil

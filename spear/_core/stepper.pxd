"""The contract of a world's stepping; see stepper.pyx."""

from spear._core.states cimport executor_t

# One step: a slice of a guest or, where none can run, time goes on to what is due. False: neither.
# Any thread, without the GIL: a step holds the world's lock.
cdef bint world_step(executor_t *executor) noexcept nogil

"""The contract of outlets for who fills them natively; see outlets.pyx."""

from spear._core.endpoints cimport Channel

cdef class Outlet:
    cdef readonly Channel channel
    cdef readonly list held        # not yet in the channel
    cdef public object moving      # who brings what found no room; None: there was room for all
    cdef list due                  # those that hold something, of all outlets of one loop
    cdef object begin
    cdef Py_ssize_t held_max

    # How many messages it takes now without a wait.
    cdef Py_ssize_t room(self)
    # As `hold`.
    cdef int hold_natively(self, bytes message) except -1

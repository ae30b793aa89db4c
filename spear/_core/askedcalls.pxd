"""The unary calls that a client has under way; see askedcalls.pyx."""

from spear._core.exchange cimport Exchange


cdef class AskedCalls:
    cdef Exchange exchange
    cdef object channel
    cdef object loop
    cdef object waiting           # those who wait for a place in the window
    cdef readonly dict answers    # the future of each call's answer, by its id
    cdef public Py_ssize_t window  # calls that may be in flight; 0: none may be made here

    cdef int flush_soon(self) except -1

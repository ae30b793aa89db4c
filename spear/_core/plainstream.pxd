"""The contract of the short way of a stream; see plainstream.pyx."""

from libc.stdint cimport int64_t, uint8_t

from spear._core.jsontext cimport text_t
from spear._core.outlets cimport Outlet


cdef class PlainStream:
    cdef Outlet outlet
    cdef text_t whole              # of the answer, that nobody asked for yet
    cdef text_t scratch            # of one piece, without its escapes
    cdef text_t event
    cdef int64_t bytes_left
    cdef int64_t bytes_taken       # since `begin`
    cdef int64_t characters_left

    # As `take`, of bytes that are the caller's.
    cdef bint take_read(self, const uint8_t *first, Py_ssize_t size) except -1

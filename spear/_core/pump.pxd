"""The contract of the pump; see pump.pyx."""

from libc.stdint cimport uint8_t

from spear._core.plainstream cimport PlainStream

cdef class Tap:
    cdef public PlainStream straight   # asked first; None: all goes to `passed`
    cdef object passed
    cdef object ended
    cdef object failed


cdef class Pump:
    cdef int fd                    # of the epoll instance
    cdef uint8_t *read             # what one socket gave
    cdef dict taps                 # by the number of their socket

    cdef _pass(self, int fd, Tap tap, Py_ssize_t size)
    cdef _over(self, int fd, Tap tap, int error)

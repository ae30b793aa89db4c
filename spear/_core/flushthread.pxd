"""The contract of the flush thread; see flushthread.pyx."""

from libc.stdint cimport int32_t, int64_t

from spear._core.hub cimport hub_t
from spear._core.sync cimport pthread_t


cdef struct flush_t:
    int64_t refs           # of the object, and of its thread
    int32_t calls          # futex: how often the thread was called
    int32_t state          # whose turn it is with all that follows, and the result
    int32_t closing
    hub_t *hub             # rung when a flush has ended
    int *files             # to be synced in this order
    int count
    int folder             # to be synced behind them; -1: none
    int error              # an errno; 0: all went well


cdef class FlushThread:
    cdef flush_t *native
    cdef pthread_t thread
    cdef int owner         # the process that has the thread; 0: none

    cdef _start(self)
    cdef _call_to_end(self)

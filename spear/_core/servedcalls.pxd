"""The calls that a server's connection has under way; see servedcalls.pyx."""

from libc.stdint cimport uint32_t

from spear._core.exchange cimport Exchange, call_t
from spear._core.protofields cimport Fields


cdef class Route:
    cdef readonly str path
    cdef bytes key                 # the path, as frames have it
    cdef object handler, read, write
    cdef Fields reads, writes      # of plain requests and responses, or None
    cdef Py_ssize_t plain_bytes_max

    cdef object request(self, bytes frame, Py_ssize_t at)
    cdef bytes response(self, object value)


cdef class ServedCalls:
    cdef Exchange exchange
    cdef object loop, connection, turn
    cdef dict routes
    cdef Route last                # the route that was taken last
    cdef set lasting               # calls that outlast the turn they came in
    cdef list fresh                # begun in this turn, and not ended
    cdef readonly dict under_way   # calls by id
    cdef readonly Py_ssize_t size  # bytes of their requests
    cdef public Py_ssize_t size_max
    cdef public Py_ssize_t window
    cdef public bint full          # the next call waits until something has ended
    cdef public bint draining      # no call is taken here any more

    cpdef add(self, request_id, call, Py_ssize_t size)
    cpdef remove(self, request_id, call, Py_ssize_t size)
    cpdef Py_ssize_t take(self, list frames, Py_ssize_t index) except -1
    cpdef go_on(self)
    cdef Route route_of(self, call_t *call)
    cdef int begin(self, Route route, bytes frame, call_t *call) except -1
    cdef int answered(self) except -1


cdef class PromptCall:
    cdef ServedCalls calls
    cdef Route route
    cdef readonly object request_id
    cdef Py_ssize_t size
    cdef uint32_t deadline_ms
    cdef object steps              # the iterator of what the handler gave
    cdef object awaited            # the future that its last step gave
    cdef object timer
    cdef object waiter             # of `ended`
    cdef bint told                 # no steps: it hears of its response
    cdef bint over
    cdef bint doomed               # its next step is told that it is cancelled
    cdef bint expired

    # 1: it has ended; 0: it waits; -1: raised what is no Exception.
    cdef int step(self) except -1
    cdef object advance(self)
    cdef int go_on(self) except -1
    cdef int wait(self) except -1
    cdef int end(self, bytes data, object error) except -1

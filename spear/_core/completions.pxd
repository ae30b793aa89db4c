"""The contract of completion hubs; see completions.pyx."""

from spear._core.guest cimport guest_t
from spear._core.hub cimport hub_t


# The event loop that runs on this thread, or None; asyncio is not imported for the answer.
cdef object running_loop()


cdef class Hub:
    cdef hub_t *native
    cdef object loop
    cdef dict waiting              # address of a record or channel -> (keeper, futures)
    cdef list backlog              # addresses not told yet

    cdef object future_of(self, guest_t *guest, object run, bint news)
    cdef int let_go(self, guest_t *guest) except -1
    cdef int expect(self, void *what, object keeper, object future) except -1
    cdef bint forget(self, void *what) except -1
    cdef _collect(self)

"""The contract of completion hubs; see completions.pyx."""

from libc.stdint cimport int64_t

from spear._core.guest cimport guest_t


cdef struct hub_t:                 # tells one event loop which runs have ended
    int64_t refs
    int fd                         # eventfd, written when the list was empty
    void *head                     # guest_t list, newest first


cdef hub_t *hub_new() noexcept nogil
cdef void hub_release(hub_t *hub) noexcept nogil
# Asks that `guest` be put on the hub's list when it ends. False: it has ended, or has another hub.
cdef bint hub_watch(hub_t *hub, guest_t *guest) noexcept nogil
# Takes the whole list; each guest on it carries a reference for the taker.
cdef guest_t *hub_take(hub_t *hub) noexcept nogil
# After ENDED is visible in the guest's state: puts it on its hub's list, if it has one.
cdef void hub_tell(guest_t *guest) noexcept nogil
# The event loop that runs on this thread, or None; asyncio is not imported for the answer.
cdef object running_loop()


cdef class Hub:
    cdef hub_t *native
    cdef object loop
    cdef dict waiting              # address of the record -> (run, futures)
    cdef list backlog              # ended runs not told yet

    cdef object future_of(self, guest_t *guest, object run)
    cdef int let_go(self, guest_t *guest) except -1
    cdef _collect(self)

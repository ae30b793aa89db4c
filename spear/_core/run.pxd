"""The contract of runs: one guest in its caller's hands; see run.pyx."""

from libc.stdint cimport int64_t, uint64_t

from spear._core.completions cimport Hub
from spear._core.door cimport Door
from spear._core.engine cimport Module
from spear._core.guest cimport guest_t
from spear._core.states cimport executor_t
from spear._core.values cimport Signature


cdef class ExecutorOwner:
    cdef executor_t *native
    cdef dict hubs
    cdef Door door                 # Python's answers to guests; None: there are no handlers

    cdef bint asks(self, Module module) noexcept
    cdef int check_may_block(self, Module module) except -1
    cpdef Hub hub_of(self, loop)


cdef class Run:
    cdef guest_t *guest
    cdef ExecutorOwner executor
    cdef Module module
    cdef Signature signature       # of the entry; None: it takes and gives nothing
    cdef tuple kept                # what the record borrows
    cdef tuple limits
    cdef str reason
    cdef object __weakref__

    cdef bint ended(self) noexcept nogil
    cdef bint has_news(self) noexcept nogil
    cdef bint step(self, int64_t until_ns, uint64_t steps_max, bint events) noexcept nogil
    cdef int burst(self, bint events) except -1
    cdef bint await_end(self, int64_t until_ns, bint events) noexcept nogil
    cdef int check_ended(self) except -1
    cdef tuple values(self)


# A Run without its record: the caller fills it.
cdef Run new_run()

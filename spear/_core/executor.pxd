"""The contract of the executor's Python face, for native modules that fill guest records."""

from libc.stdint cimport int64_t

from spear._core.completions cimport Hub
from spear._core.door cimport Door
from spear._core.engine cimport Module
from spear._core.guest cimport guest_t
from spear._core.scheduler cimport batch_t, executor_t


cdef class Run:
    cdef guest_t *guest
    cdef Executor executor
    cdef Module module
    cdef tuple kept                # what the record borrows
    cdef tuple limits
    cdef str reason
    cdef object __weakref__

    cdef bint ended(self) noexcept nogil
    cdef bint has_news(self) noexcept nogil
    cdef bint await_end(self, int64_t until_ns, bint events) noexcept nogil
    cdef int check_ended(self) except -1


cdef class Batch:
    cdef batch_t *native
    cdef readonly int64_t duration_ns

    cdef int run_all(self, Executor executor) except -1
    cdef void await_events(self) noexcept nogil


cdef class Executor:
    cdef executor_t *native
    cdef dict hubs
    cdef set engines               # keeps the engines alive whose epochs are advanced
    cdef Door door                 # Python's answers to guests; None: there are no handlers

    cpdef Hub hub_of(self, loop)
    cdef int adopt(self, Module module) except -1
    cdef object refusal(self)
    cdef int check_may_block(self, Module module) except -1


# A Run without its record: the caller fills it.
cdef Run new_run()
# Module and input of a record; gives what the record borrows and must be kept.
cdef tuple fill_input(guest_t *guest, Module module, str entry, args, env, bytes stdin)
cdef void fill_limits(
    guest_t *guest, int64_t memory_bytes_max, int64_t output_bytes_max, int64_t log_bytes_max,
    bint log_stdout) noexcept
cdef int check_limits(Module module, memory_bytes_max) except -1

"""The contract of the executor's Python face, for native modules that start guests."""

from libc.stdint cimport int64_t, uint64_t

from spear._core.engine cimport Module
from spear._core.guest cimport guest_t
from spear._core.run cimport ExecutorOwner, Run
from spear._core.values cimport Signature
from spear._core.world cimport world_t


# What starts of one kind have in common, checked once.
cdef class Launch:
    cdef Executor executor
    cdef uint64_t number           # of the module that it was checked for
    cdef guest_t *model
    cdef Signature signature
    cdef tuple kept, call_args     # kept: what the model borrows, and each guest with it
    cdef object output_bytes_max, fuel, dirs

    cdef Run begin(
        self, Module module, bytes stdin, str execution_id, timeout_ns, priority, bint inline,
        object context)


cdef class Executor(ExecutorOwner):
    cdef set engines               # keeps the engines alive whose epochs are advanced
    cdef bint by_priority          # a world's strategy

    cdef int check_process(self) except -1
    cdef int adopt(self, Module module) except -1
    # Starts a filled record, in a run that keeps what it borrows.
    cdef Run launch(
        self, guest_t *guest, Module module, Signature signature, tuple kept, tuple limits,
        bint here, object context)
    # Begin and deadline, by the clock that guests live by.
    cdef void fill_times(self, guest_t *guest, int64_t timeout_ns) noexcept
    cdef object refusal(self)
    cdef world_t *own_world(self) except NULL

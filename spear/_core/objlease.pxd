"""The contract of a lease: what a run's guests may reach of an object store.

Rule: a lease is made by `hostobjects.lend` and kept by the run; a guest record points to `native`.
Who has no store imports nothing of it: the calls are found through the lease.
"""

from libc.stdint cimport int32_t, uint32_t

from spear._core.engineapi cimport wasmtime_caller_t, wasmtime_val_raw_t
from spear._core.guest cimport guest_t

# One object call: reads its arguments from the values, gives its answer.
ctypedef int32_t (*object_call_t)(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values) noexcept nogil

cdef enum:
    OBJECT_CALLS = 9

cdef struct lease_t:
    const object_call_t *calls     # OBJECT_CALLS of them, in the order of the ABI
    void *table                    # objentries.Table
    const char *home               # "/task/", where names without a namespace lie
    uint32_t home_size
    const char *granted            # "/other/" of each granted task, each with its NUL
    uint32_t granted_size


cdef class Lease:
    cdef lease_t native
    cdef tuple kept                # what `native` borrows

"""The contract of warm instances; see instance.pyx."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from spear._core.engine cimport Module
from spear._core.engineapi cimport *
from spear._core.executor cimport Executor, Run
from spear._core.guest cimport guest_t

cdef enum:
    VALUES_MAX = 32            # parameters, or results, of one function
    STACK_BYTES_MIN = 768 << 10    # the engine's wasm stack, and 512 KiB for the host's calls


cdef class Instance:
    cdef guest_t *guest
    cdef Executor executor
    cdef Module module
    cdef tuple kept, limits
    cdef int64_t timeout_ns
    cdef int32_t busy
    cdef str spent                 # why no call is possible any more, or ""

    cdef int _instantiate(self) except -1
    cdef void _arm(self) noexcept nogil
    cdef int _fail(self) except -1
    cdef int enter(self) except -1
    cdef int check_usable(self) except -1
    cdef int hold(self) except -1
    cdef Run _reader(self)


cdef class Function:
    cdef Instance instance
    cdef wasmtime_func_t func
    cdef readonly str name, signature
    cdef uint8_t params[VALUES_MAX]
    cdef uint8_t results[VALUES_MAX]
    cdef int param_count, result_count

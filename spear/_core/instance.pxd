"""The contract of warm instances; see instance.pyx."""

from libc.stdint cimport int64_t

from spear._core.engine cimport Module
from spear._core.engineapi cimport *
from spear._core.executor cimport Executor
from spear._core.guest cimport guest_t
from spear._core.run cimport Run
from spear._core.values cimport Signature

cdef enum:
    STACK_BYTES_MIN = 768 << 10    # the engine's wasm stack, and 512 KiB for the host's calls


cdef class Instance:
    cdef guest_t *guest            # owns the store; NULL where each call has its own
    cdef Executor executor
    cdef Module module
    cdef tuple kept, limits
    cdef object args, env, fuel, context
    cdef tuple objects             # store, task, grants
    cdef int64_t timeout_ns, memory_bytes_max, output_bytes_max, log_bytes_max
    cdef bint log_waits
    cdef str spent                 # why no call is possible any more, or ""

    cdef int _instantiate(self) except -1
    cdef int _fill(self, guest_t *guest) except -1
    cdef tuple lend(self, guest_t *guest)
    cdef void _arm(self) noexcept nogil
    cdef int fail(self) except -1
    cdef int enter(self) except -1
    cdef int check_usable(self) except -1
    cdef int hold(self) except -1
    cdef void let_go(self) noexcept nogil
    cdef Run launch(
        self, str name, Signature signature, tuple call_args, bytes stdin, timeout_ns, bint here,
        object context)
    cdef Run _reader(self)


cdef class Function:
    cdef Instance instance
    cdef wasmtime_func_t func
    cdef Signature types
    cdef readonly str name

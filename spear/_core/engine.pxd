"""The contract of the engine for the executor."""

from libc.stdint cimport int64_t, uint64_t

from spear._core.engineapi cimport *
from spear._core.shim cimport shim_t

cdef enum:
    SHIMS_MAX = 2

cdef class Module:
    cdef wasm_engine_t *native_engine
    cdef wasmtime_module_t *native
    cdef wasmtime_instance_pre_t *pre
    cdef const wasmtime_linker_t *linker    # the engine's
    cdef shim_t *shim                   # the engine's; NULL: it imports no send
    cdef object engine                  # keeps the native engine alive
    cdef object signatures              # exported functions: name -> signature
    cdef bint exports_memory
    cdef bint fiber_first               # is instantiated on a fiber, not in place
    cdef readonly bint metered          # its code counts fuel
    cdef int generation
    cdef uint64_t number                # no other module of this process has it
    cdef readonly str digest
    cdef readonly str shape
    cdef readonly object memory_min_bytes
    cdef readonly object memory_max_bytes
    cdef readonly object table_min_elements
    cdef readonly tuple exports
    cdef readonly tuple unserved
    cdef readonly tuple waiting
    cdef readonly bint uses_objects
    cdef readonly bint puts_objects
    cdef readonly tuple posted
    cdef readonly bint self_contained
    cdef readonly str source
    cdef readonly str warning

cdef class Engine:
    cdef wasm_engine_t *native
    cdef wasmtime_linker_t *linker
    cdef shim_t *shims[SHIMS_MAX]       # one an import that re-enters, made when first needed
    cdef void *memories                 # gm_pool
    cdef object lock, compiler
    cdef int generation
    cdef readonly int slots
    cdef readonly bint metered
    cdef readonly bint trial

    cdef int _attach_shim(self, Module module, declared) except -1
    cdef int _make(self) except -1
    cdef int _obtain(self, Module module, bytes wasm, cache_dir) except -1
    cdef bytes _compile(self, Module module, bytes wasm)
    cdef bint _deserialize(self, Module module, path, shown) except -1

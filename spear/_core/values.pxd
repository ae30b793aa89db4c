"""The contract of typed values; see values.pyx."""

from libc.stdint cimport uint8_t

from spear._core.engineapi cimport *

cdef enum:
    VALUES_MAX = 32            # parameters, or results, of one function


cdef class Signature:
    cdef readonly str text     # "(i32, i64) -> f64"
    cdef uint8_t params[VALUES_MAX]
    cdef uint8_t results[VALUES_MAX]
    cdef int param_count, result_count

    cdef int check(self, str name, tuple args) except -1


# The signature in that form; InvalidArgument where a type is not a number's.
cdef Signature signature_of(str text, str name)
cdef int store_raw(wasmtime_val_raw_t *value, uint8_t kind, object given) except -1
cdef object load_raw(const wasmtime_val_raw_t *value, uint8_t kind)
cdef int store_value(wasmtime_val_t *value, uint8_t kind, object given) except -1
cdef object load_value(const wasmtime_val_t *value, uint8_t kind)

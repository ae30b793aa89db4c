"""The plain fields of a protobuf message; see protofields.pyx."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    FIELDS_MAX = 64            # of one message
    NUMBER_MAX = 127           # of a field

cdef struct field_t:
    uint32_t number
    uint8_t kind               # index in KINDS
    bint presence              # absent and zero differ
    bint required              # the record must be given it
    uint8_t mark               # bit in `seen`; fields of a oneof share one
    Py_ssize_t offset          # where a record has the value; 0: to be asked for by name

cdef struct out_t:             # bytes that grow; `data` is from malloc
    uint8_t *data
    size_t size, room


cdef class Fields:
    cdef object record         # the type
    cdef tuple names, defaults, zeros, inner
    cdef field_t fields[FIELDS_MAX]
    cdef Py_ssize_t count
    cdef uint8_t by_number[NUMBER_MAX + 1]  # index + 1; 0: not known

    # The bytes of a record, or None: not a plain case.
    cpdef object encode(self, record)
    # 1: done; 0: not a plain case, `out` is to be thrown away; -1: raised.
    cdef int write(self, object record, out_t *out) except -1
    cdef object value_of(self, object record, Py_ssize_t index)
    cdef int write_field(self, Py_ssize_t index, object value, out_t *out) except -1
    # A new record, or None: not a plain case.
    cdef object read(self, const uint8_t *at, const uint8_t *end)
    cdef object chunk(self, Py_ssize_t index, const uint8_t *at, Py_ssize_t size)
    # As `write`; each new reference goes to `found`, also before a 0 or -1.
    cdef int scan(self, const uint8_t *at, const uint8_t *end, PyObject **found) except -1
    cdef object made(self, PyObject **found)

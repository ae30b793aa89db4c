"""Seals rows: puts the checksum of key and value behind the value.

Rule: values and plain calls only. What a sealed row looks like is said in spear/kv/rows.py; here
many are sealed and handed on with no Python between them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from zlib import crc32

cdef enum:
    SEAL_BYTES = 4


cpdef bytes seal(bytes key, bytes value):
    """The value with its checksum; see sealing.pyi."""
    if key is None or value is None:
        raise TypeError("a key and a value are bytes")
    cdef uint32_t checksum = crc32(value, crc32(key))
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef bytes sealed = PyBytes_FromStringAndSize(NULL, size + SEAL_BYTES)
    cdef char *out = PyBytes_AS_STRING(sealed)
    cdef int at
    memcpy(out, PyBytes_AS_STRING(value), size)
    for at in range(SEAL_BYTES):
        out[size + at] = <char>(checksum >> 8 * at & 0xFF)
    return sealed


def put_all(dict changes not None, put, delete):
    """Hands each change on, in their order; see sealing.pyi."""
    for key, value in changes.items():
        if value is None:
            delete(key)
        else:
            put(key, seal(key, value))

"""One row of an import table: what a guest may import and the one function that serves it."""

from libc.stdint cimport uint32_t

from spear._core.engineapi cimport *

cdef struct import_row:
    const char *module
    const char *name
    const char *params         # one letter a parameter: i for i32, I for i64
    const char *results
    wasmtime_func_unchecked_callback_t call    # answers in place; NULL where it may wait
    wasmtime_func_async_callback_t park        # may leave the guest waiting
    bint served                # False: links, answers -ENOSYS and warns once
    void *env                  # given to `call` or `park`

cdef struct import_table:
    const import_row *rows
    uint32_t count

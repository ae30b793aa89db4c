"""One row of an import table: what a guest may import and the one function that serves it."""

from libc.stdint cimport int32_t, uint32_t

from spear._core.engineapi cimport *

# A call that Python answers. `shape` has a letter an argument of the handler:
#   i, I   an i32, an i64
#   d      an i32, a descriptor that Python answers for (its Handle), of one of `kinds`
#   b      (ptr, len): bytes in
#   o      (out_ptr, out_len_ptr): bytes out, "len in/out"; the handler is told the room
#   x      (arg_ptr, arg_len_ptr): bytes in, and bytes out to the same place
# At most one of o and x, and one d.
cdef struct posted_row:
    const char *module
    const char *name
    const char *shape
    char params[16]            # as of import_row
    uint32_t kinds             # bit n: a descriptor of kind n is taken
    int32_t op                 # its operation code
    uint32_t bytes_max         # of all its bytes in together

cdef struct import_row:
    const char *module
    const char *name
    const char *params         # one letter a parameter: i for i32, I for i64
    const char *results
    wasmtime_func_unchecked_callback_t call    # answers in place; NULL where it may wait
    wasmtime_func_async_callback_t park        # may leave the guest waiting
    bint served                # False: links, answers -ENOSYS and warns once
    void *env                  # given to `call` or `park`
    const posted_row *posted   # Python answers it; NULL: it does not
    bint reenters              # it may call the guest's tools: linked through a shim

cdef struct import_table:
    const import_row *rows
    uint32_t count

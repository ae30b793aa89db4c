"""Module `spear_trial`: one call of each kind that Python answers, for tests and benchmarks.

Rule: linked only by `Engine(trial=True)`; every other engine refuses a module that imports it.
`noop` is answered in place, so that what a hostcall costs can be measured.
"""

from libc.stdint cimport int32_t, uint32_t

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport guest_of, guest_stop
from spear._core.imports cimport import_row, import_table, posted_row
from spear._core.post cimport post_row
from spear._core.sync cimport load32

wasmtime_bind(engineapi.functions())

ECHO, ADD, PAUSE, CONTROL, MIXED, SEND = range(240, 246)
BYTES_MAX = 1 << 20

cdef import_row _rows[8]
cdef posted_row _posted[8]
cdef uint32_t _count = 0


cdef wasm_trap_t *_noop(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    if load32(&guest_of(caller).kill) != 0:
        return guest_stop()
    values[0].i32 = 0
    return NULL


cdef import_table trial_table() noexcept nogil:
    cdef import_table table
    table.rows, table.count = _rows, _count
    return table


cdef import_row *_row(const char *name, const char *shape, int32_t op) noexcept:
    global _count
    cdef posted_row *posted = &_posted[_count]
    cdef import_row *row = &_rows[_count]
    posted.module, posted.name, posted.shape = b"spear_trial", name, shape
    posted.op, posted.bytes_max = op, BYTES_MAX
    post_row(row, posted)
    _count += 1
    return row


cdef void _fill() noexcept:
    cdef import_row *row = _row(b"noop", b"", 0)
    row.park, row.posted, row.call = NULL, NULL, _noop
    _row(b"echo", b"bo", ECHO)
    _row(b"add", b"ii", ADD)
    _row(b"pause", b"", PAUSE)
    _row(b"control", b"iix", CONTROL)
    _row(b"mixed", b"iIbb", MIXED)
    _row(b"send", b"ii", SEND).reenters = True


_fill()

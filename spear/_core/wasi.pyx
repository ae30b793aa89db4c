"""WASI preview 1: its import table, and the calls that are about no descriptor.

Rule: as in hostabi: no GIL, every pointer checked, the guest's end looked for at each call. Calls
on files stand in wasifiles, wasidirs and wasipaths; sockets do not exist. Source: WASI snapshot
preview 1 (witx).
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.imports cimport import_row, import_table
from spear._core.sync cimport *
from spear._core.wasibits cimport *
from spear._core.wasidirs cimport wasi_dir_rows
from spear._core.wasifiles cimport wasi_file_rows
from spear._core.wasinumbers cimport *
from spear._core.wasipaths cimport wasi_path_rows
from spear._core.wasipoll cimport wasi_clock_now, wasi_poll_oneoff, wasi_sched_yield

wasmtime_bind(engineapi.functions())

cdef enum:
    RANDOM_PIECE = 1 << 16     # bytes between two looks at the deadline
    ROWS_MAX = 48

cdef import_row _rows[ROWS_MAX]
cdef uint32_t _count = 0


# ---- arguments and environment: strings one behind another, and a table of where each begins

cdef int32_t _strings_get(
    guest_t *guest, wasmtime_caller_t *caller, const char *data, size_t size, uint32_t count,
    int32_t table_at, int32_t text_at
) noexcept nogil:
    cdef uint8_t *table = guest_span(guest, caller, <uint32_t>table_at, <uint64_t>count * 4)
    cdef uint8_t *text = guest_span(guest, caller, <uint32_t>text_at, size)
    if table == NULL or text == NULL:
        return EFAULT
    memcpy(text, data, size)
    cdef uint32_t at, begin = 0, number = 0
    cdef uint32_t address
    for at in range(<uint32_t>size):
        if data[at] == 0 and number < count:
            address = <uint32_t>text_at + begin
            memcpy(table + 4 * number, &address, 4)
            number += 1
            begin = at + 1
    return ESUCCESS


cdef int32_t _strings_sizes(
    guest_t *guest, wasmtime_caller_t *caller, size_t size, uint32_t count, int32_t count_at,
    int32_t size_at
) noexcept nogil:
    if guest_span(guest, caller, <uint32_t>size_at, 4) == NULL:
        return EFAULT
    cdef uint32_t bytes = <uint32_t>size
    cdef int32_t code = wasi_give(guest, caller, count_at, &count, 4)
    return code or wasi_give(guest, caller, size_at, &bytes, 4)


cdef int32_t _args_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _strings_get(guest, caller, guest.args, guest.args_size, guest.argc,
                        values[0].i32, values[1].i32)


cdef int32_t _args_sizes_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _strings_sizes(guest, caller, guest.args_size, guest.argc,
                          values[0].i32, values[1].i32)


cdef int32_t _environ_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _strings_get(guest, caller, guest.env, guest.env_size, guest.envc,
                        values[0].i32, values[1].i32)


cdef int32_t _environ_sizes_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _strings_sizes(guest, caller, guest.env_size, guest.envc,
                          values[0].i32, values[1].i32)


# ---- clocks and randomness

cdef int32_t _clock_res_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if not 0 <= values[0].i32 <= CLOCK_THREAD_CPU:
        return EINVAL
    cdef uint64_t step_ns = 1
    return wasi_give(guest, caller, values[1].i32, &step_ns, 8)


cdef int32_t _clock_time_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if not 0 <= values[0].i32 <= CLOCK_THREAD_CPU:
        return EINVAL
    cdef int64_t now = wasi_clock_now(guest, values[0].i32)
    return wasi_give(guest, caller, values[2].i32, &now, 8)


cdef int32_t _random_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef uint64_t size = <uint32_t>values[1].i32
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>values[0].i32, size)
    cdef size_t piece
    if out == NULL:
        return EFAULT
    while size > 0 and not wasi_doomed(guest):
        piece = size if size < RANDOM_PIECE else RANDOM_PIECE
        guest_random(guest, out, piece)
        out, size = out + piece, size - piece
        if guest_now_ns(guest) >= guest.deadline_ns:
            guest_doom(guest, CAUSE_DEADLINE)
    return ESUCCESS


# ---- what there is not, and the end

cdef int32_t _no_socket(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return EBADF if wasi_file(guest, values[0].i32) == NULL else ENOTSOCK


cdef int32_t _proc_raise(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ENOSYS


# The one callback of all calls that answer in place: `env` is the function that does.
cdef wasm_trap_t *_answer(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if wasi_doomed(guest):
        return guest_stop()
    cdef int32_t code = (<wasi_answer_t>env)(guest, caller, values)
    if wasi_doomed(guest):
        return guest_stop()
    values[0].i32 = code
    return NULL


cdef wasm_trap_t *_proc_exit(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if not wasi_doomed(guest):
        guest.exited = True
        guest.exit_code = values[0].i32
    return guest_stop()


# ---- the table

cdef import_table wasi_table() noexcept nogil:
    cdef import_table table
    table.rows, table.count = _rows, _count
    return table


cdef void _row(const char *name, const char *params, wasi_answer_t answer) noexcept:
    global _count
    cdef import_row *row = &_rows[_count]
    row.module, row.name = b"wasi_snapshot_preview1", name
    row.params, row.results, row.served = params, b"i", True
    row.call, row.env = _answer, <void *>answer
    _count += 1


cdef void _waiting_row(
    const char *name, const char *params, wasmtime_func_async_callback_t park
) noexcept:
    _row(name, params, NULL)
    _rows[_count - 1].call, _rows[_count - 1].park = NULL, park


_row(b"args_get", b"ii", _args_get)
_row(b"args_sizes_get", b"ii", _args_sizes_get)
_row(b"environ_get", b"ii", _environ_get)
_row(b"environ_sizes_get", b"ii", _environ_sizes_get)
_row(b"clock_res_get", b"ii", _clock_res_get)
_row(b"clock_time_get", b"iIi", _clock_time_get)
_row(b"random_get", b"ii", _random_get)
wasi_file_rows(_row)
wasi_dir_rows(_row)
wasi_path_rows(_row)
_waiting_row(b"poll_oneoff", b"iiii", wasi_poll_oneoff)
_row(b"proc_raise", b"i", _proc_raise)
_waiting_row(b"sched_yield", b"", wasi_sched_yield)
_row(b"sock_accept", b"iii", _no_socket)
_row(b"sock_recv", b"iiiiii", _no_socket)
_row(b"sock_send", b"iiiii", _no_socket)
_row(b"sock_shutdown", b"ii", _no_socket)
_row(b"proc_exit", b"i", NULL)
_rows[_count - 1].call, _rows[_count - 1].results = _proc_exit, b""

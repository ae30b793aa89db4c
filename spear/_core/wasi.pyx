"""Our subset of WASI preview 1: arguments, environment, clocks, randomness, stdio, poll, exit.

Rule: as in hostabi: no GIL, every pointer checked, the guest's end looked for at each call. No
directory is granted in this build, so descriptors 0, 1 and 2 are all there are and any other is
EBADF; sockets do not exist. Source: WASI snapshot preview 1 (witx).
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.imports cimport import_row, import_table
from spear._core.sync cimport *
from spear._core.wasibits cimport *
from spear._core.wasipoll cimport wasi_clock_now, wasi_poll_oneoff, wasi_sched_yield

wasmtime_bind(engineapi.functions())

cdef enum:
    FILETYPE_CHARACTER_DEVICE = 2
    RIGHT_READ = 1 << 1
    RIGHT_SET_FLAGS = 1 << 3
    RIGHT_WRITE = 1 << 6
    RIGHT_FILESTAT = 1 << 21
    RIGHT_POLL = 1 << 27
    VECTORS_MAX = 1024
    WRITE_BYTES_MAX = 1 << 20
    RANDOM_PIECE = 1 << 16     # bytes between two looks at the deadline
    ROWS_MAX = 48

cdef import_row _rows[ROWS_MAX]
cdef uint32_t _count = 0


cdef int32_t _store_u32(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, uint32_t value
) noexcept nogil:
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>at, 4)
    if out == NULL:
        return EFAULT
    memcpy(out, &value, 4)
    return ESUCCESS


cdef int32_t _store_u64(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, uint64_t value
) noexcept nogil:
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>at, 8)
    if out == NULL:
        return EFAULT
    memcpy(out, &value, 8)
    return ESUCCESS


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
    cdef int32_t code = _store_u32(guest, caller, count_at, count)
    return code or _store_u32(guest, caller, size_at, <uint32_t>size)


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
    return _store_u64(guest, caller, values[1].i32, 1)


cdef int32_t _clock_time_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if not 0 <= values[0].i32 <= CLOCK_THREAD_CPU:
        return EINVAL
    return _store_u64(guest, caller, values[2].i32, wasi_clock_now(guest, values[0].i32))


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


# ---- descriptors 0, 1 and 2

cdef bint _inside(
    guest_t *guest, wasmtime_caller_t *caller, const uint8_t *vector, uint32_t vectors
) noexcept nogil:
    """Whether all buffers of a list of (address, size) lie in memory."""
    cdef uint32_t index
    for index in range(vectors):
        if guest_span(
                guest, caller, u32_at(vector + 8 * index), u32_at(vector + 8 * index + 4)) == NULL:
            return False
    return True


cdef int32_t _fd_write(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """Nothing where a vector lies outside memory; at most WRITE_BYTES_MAX, as WASI allows."""
    cdef int32_t fd = values[0].i32
    cdef uint32_t index, size, vectors = <uint32_t>values[2].i32
    cdef uint64_t total = 0
    cdef uint8_t *vector = NULL
    cdef uint8_t *data
    if not wasi_open(guest, fd) or fd == 0:
        return EBADF
    if vectors > VECTORS_MAX:
        return EINVAL
    vector = guest_span(guest, caller, <uint32_t>values[1].i32, <uint64_t>vectors * 8)
    if vector == NULL or guest_span(guest, caller, <uint32_t>values[3].i32, 4) == NULL:
        return EFAULT
    if not _inside(guest, caller, vector, vectors):
        return EFAULT
    for index in range(vectors):
        data = guest_span(guest, caller, u32_at(vector + 8 * index), u32_at(vector + 8 * index + 4))
        size = u32_at(vector + 8 * index + 4)
        if size > WRITE_BYTES_MAX - total:
            size = <uint32_t>(WRITE_BYTES_MAX - total)
        total += size
        if not guest_write(guest, fd, <const char *>data, size):
            guest_doom(guest, CAUSE_OUTPUT)
            return EINVAL
    return _store_u32(guest, caller, values[3].i32, <uint32_t>total)


cdef int32_t _fd_read(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef uint32_t index, size, vectors = <uint32_t>values[2].i32
    cdef uint64_t total = 0
    cdef uint8_t *vector = NULL
    cdef uint8_t *out
    if not wasi_open(guest, values[0].i32) or values[0].i32 != 0:
        return EBADF
    if vectors > VECTORS_MAX:
        return EINVAL
    vector = guest_span(guest, caller, <uint32_t>values[1].i32, <uint64_t>vectors * 8)
    if vector == NULL or guest_span(guest, caller, <uint32_t>values[3].i32, 4) == NULL:
        return EFAULT
    if not _inside(guest, caller, vector, vectors):
        return EFAULT
    for index in range(vectors):
        size = u32_at(vector + 8 * index + 4)
        if size > guest.stdin_size - guest.stdin_at:
            size = <uint32_t>(guest.stdin_size - guest.stdin_at)
        out = guest_span(guest, caller, u32_at(vector + 8 * index), size)
        if out == NULL:            # what was read before has changed the vectors themselves
            return EFAULT
        memcpy(out, guest.stdin_data + guest.stdin_at, size)
        guest.stdin_at += size
        total += size
    return _store_u32(guest, caller, values[3].i32, <uint32_t>total)


cdef int32_t _fd_close(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if not wasi_open(guest, values[0].i32):
        return EBADF
    guest.closed |= <uint8_t>(1 << values[0].i32)
    return ESUCCESS


cdef int32_t _fd_fdstat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t fd = values[0].i32
    cdef uint64_t rights = RIGHT_SET_FLAGS | RIGHT_FILESTAT | RIGHT_POLL
    if not wasi_open(guest, fd):
        return EBADF
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>values[1].i32, 24)
    if out == NULL:
        return EFAULT
    rights |= RIGHT_READ if fd == 0 else RIGHT_WRITE
    memset(out, 0, 24)
    out[0] = FILETYPE_CHARACTER_DEVICE
    memcpy(out + 8, &rights, 8)
    return ESUCCESS


cdef int32_t _fd_filestat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if not wasi_open(guest, values[0].i32):
        return EBADF
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>values[1].i32, 64)
    if out == NULL:
        return EFAULT
    memset(out, 0, 64)
    out[16] = FILETYPE_CHARACTER_DEVICE
    out[24] = 1                # links
    return ESUCCESS


cdef int32_t _fd_set_flags(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """Append and non-blocking change nothing on these streams; synchronous ones do not exist."""
    if not wasi_open(guest, values[0].i32):
        return EBADF
    return ENOTSUP if values[1].i32 & ~0x5 else ESUCCESS


cdef int32_t _fd_seek(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ESPIPE if wasi_open(guest, values[0].i32) else EBADF


cdef int32_t _fd_sync(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ESUCCESS if wasi_open(guest, values[0].i32) else EBADF


cdef int32_t _fd_not_a_file(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return EINVAL if wasi_open(guest, values[0].i32) else EBADF


cdef int32_t _fd_renumber(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ENOTSUP if wasi_open(guest, values[0].i32) and wasi_open(guest, values[1].i32) else EBADF


cdef int32_t _no_directory(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return EBADF


cdef int32_t _no_socket(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ENOTSOCK if wasi_open(guest, values[0].i32) else EBADF


cdef int32_t _proc_raise(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ENOSYS


ctypedef int32_t (*answer_t)(
    guest_t *, wasmtime_caller_t *, wasmtime_val_raw_t *) noexcept nogil


# The one callback of all calls that answer in place: `env` is the function that does.
cdef wasm_trap_t *_answer(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if wasi_doomed(guest):
        return guest_stop()
    cdef int32_t code = (<answer_t>env)(guest, caller, values)
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


cdef void _row(const char *name, const char *params, answer_t answer) noexcept:
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
_row(b"fd_advise", b"iIIi", _fd_seek)
_row(b"fd_allocate", b"iII", _fd_not_a_file)
_row(b"fd_close", b"i", _fd_close)
_row(b"fd_datasync", b"i", _fd_sync)
_row(b"fd_fdstat_get", b"ii", _fd_fdstat_get)
_row(b"fd_fdstat_set_flags", b"ii", _fd_set_flags)
_row(b"fd_fdstat_set_rights", b"iII", _fd_sync)
_row(b"fd_filestat_get", b"ii", _fd_filestat_get)
_row(b"fd_filestat_set_size", b"iI", _fd_not_a_file)
_row(b"fd_filestat_set_times", b"iIIi", _fd_not_a_file)
_row(b"fd_pread", b"iiiIi", _fd_seek)
_row(b"fd_prestat_get", b"ii", _no_directory)
_row(b"fd_prestat_dir_name", b"iii", _no_directory)
_row(b"fd_pwrite", b"iiiIi", _fd_seek)
_row(b"fd_read", b"iiii", _fd_read)
_row(b"fd_readdir", b"iiiIi", _no_directory)
_row(b"fd_renumber", b"ii", _fd_renumber)
_row(b"fd_seek", b"iIii", _fd_seek)
_row(b"fd_sync", b"i", _fd_sync)
_row(b"fd_tell", b"ii", _fd_seek)
_row(b"fd_write", b"iiii", _fd_write)
_row(b"path_create_directory", b"iii", _no_directory)
_row(b"path_filestat_get", b"iiiii", _no_directory)
_row(b"path_filestat_set_times", b"iiiiIIi", _no_directory)
_row(b"path_link", b"iiiiiii", _no_directory)
_row(b"path_open", b"iiiiiIIii", _no_directory)
_row(b"path_readlink", b"iiiiii", _no_directory)
_row(b"path_remove_directory", b"iii", _no_directory)
_row(b"path_rename", b"iiiiii", _no_directory)
_row(b"path_symlink", b"iiiii", _no_directory)
_row(b"path_unlink_file", b"iii", _no_directory)
_waiting_row(b"poll_oneoff", b"iiii", wasi_poll_oneoff)
_row(b"proc_raise", b"i", _proc_raise)
_waiting_row(b"sched_yield", b"", wasi_sched_yield)
_row(b"sock_accept", b"iii", _no_socket)
_row(b"sock_recv", b"iiiiii", _no_socket)
_row(b"sock_send", b"iiiii", _no_socket)
_row(b"sock_shutdown", b"ii", _no_socket)
_row(b"proc_exit", b"i", NULL)
_rows[_count - 1].call, _rows[_count - 1].results = _proc_exit, b""

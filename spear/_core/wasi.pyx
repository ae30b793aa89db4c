"""Our subset of WASI preview 1: arguments, environment, clocks, randomness, stdio, poll, exit.

Rule: as in hostabi: no GIL, every pointer checked, the guest's end looked for at each call. No
directory is granted in this build, so descriptors 0, 1 and 2 are all there are and any other is
EBADF; sockets do not exist. Source: WASI snapshot preview 1 (witx).
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.imports cimport import_row, import_table
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    ESUCCESS = 0
    EBADF = 8
    EFAULT = 21
    EINVAL = 28
    ENOSYS = 52
    ENOTSOCK = 57
    ENOTSUP = 58
    ESPIPE = 70

cdef enum:
    CLOCK_REALTIME = 0
    CLOCK_THREAD_CPU = 3
    SUBSCRIPTION_BYTES = 48
    EVENT_BYTES = 32
    SUBSCRIPTIONS_MAX = 1024
    EVENT_CLOCK = 0
    EVENT_READ = 1
    EVENT_WRITE = 2
    ABSTIME = 1
    FILETYPE_CHARACTER_DEVICE = 2
    RIGHT_READ = 1 << 1
    RIGHT_SET_FLAGS = 1 << 3
    RIGHT_WRITE = 1 << 6
    RIGHT_FILESTAT = 1 << 21
    RIGHT_POLL = 1 << 27
    VECTORS_MAX = 1024
    WRITE_BYTES_MAX = 1 << 20
    ROWS_MAX = 48

cdef import_row _rows[ROWS_MAX]
cdef uint32_t _count = 0


# What every call begins with: the guest and its doom.
cdef inline bint _doomed(guest_t *guest) noexcept nogil:
    return load32(&guest.kill) != 0


cdef inline bint _open(guest_t *guest, int32_t fd) noexcept nogil:
    return 0 <= fd <= 2 and not guest.closed >> fd & 1


cdef inline uint32_t _u32(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t _u64(const uint8_t *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


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
        if data[at] == 0:
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

cdef int64_t _clock_now(guest_t *guest, int32_t clock) noexcept nogil:
    """CPU clocks count the execution's own time from its start."""
    if clock == CLOCK_REALTIME:
        return realtime_ns()
    cdef int64_t now = monotonic_ns()
    return now if clock == 1 else now - guest.began_ns


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
    return _store_u64(guest, caller, values[2].i32, _clock_now(guest, values[0].i32))


cdef int32_t _random_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef uint64_t size = <uint32_t>values[1].i32
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>values[0].i32, size)
    cdef ssize_t got
    if out == NULL:
        return EFAULT
    while size > 0 and not _doomed(guest):
        got = getrandom(out, size if size < 256 else 256, 0)
        if got > 0:
            out, size = out + got, size - got
    return ESUCCESS


# ---- descriptors 0, 1 and 2

cdef int32_t _fd_write(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """Nothing where a vector lies outside memory; at most WRITE_BYTES_MAX a call, as WASI allows."""
    cdef int32_t fd = values[0].i32
    cdef uint32_t index, size, vectors = <uint32_t>values[2].i32
    cdef uint64_t total = 0
    cdef uint8_t *vector = NULL
    cdef uint8_t *data
    if not _open(guest, fd) or fd == 0:
        return EBADF
    if vectors > VECTORS_MAX:
        return EINVAL
    vector = guest_span(guest, caller, <uint32_t>values[1].i32, <uint64_t>vectors * 8)
    if vector == NULL or guest_span(guest, caller, <uint32_t>values[3].i32, 4) == NULL:
        return EFAULT
    for index in range(vectors):
        if guest_span(guest, caller, _u32(vector + 8 * index), _u32(vector + 8 * index + 4)) == NULL:
            return EFAULT
    for index in range(vectors):
        data = guest_span(guest, caller, _u32(vector + 8 * index), _u32(vector + 8 * index + 4))
        size = _u32(vector + 8 * index + 4)
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
    if not _open(guest, values[0].i32) or values[0].i32 != 0:
        return EBADF
    if vectors > VECTORS_MAX:
        return EINVAL
    vector = guest_span(guest, caller, <uint32_t>values[1].i32, <uint64_t>vectors * 8)
    if vector == NULL or guest_span(guest, caller, <uint32_t>values[3].i32, 4) == NULL:
        return EFAULT
    for index in range(vectors):
        if guest_span(guest, caller, _u32(vector + 8 * index), _u32(vector + 8 * index + 4)) == NULL:
            return EFAULT
    for index in range(vectors):
        size = _u32(vector + 8 * index + 4)
        if size > guest.stdin_size - guest.stdin_at:
            size = <uint32_t>(guest.stdin_size - guest.stdin_at)
        out = guest_span(guest, caller, _u32(vector + 8 * index), size)
        if out == NULL:            # what was read before has changed the vectors themselves
            return EFAULT
        memcpy(out, guest.stdin_data + guest.stdin_at, size)
        guest.stdin_at += size
        total += size
    return _store_u32(guest, caller, values[3].i32, <uint32_t>total)


cdef int32_t _fd_close(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if not _open(guest, values[0].i32):
        return EBADF
    guest.closed |= <uint8_t>(1 << values[0].i32)
    return ESUCCESS


cdef int32_t _fd_fdstat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t fd = values[0].i32
    cdef uint64_t rights = RIGHT_SET_FLAGS | RIGHT_FILESTAT | RIGHT_POLL
    if not _open(guest, fd):
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
    if not _open(guest, values[0].i32):
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
    if not _open(guest, values[0].i32):
        return EBADF
    return ENOTSUP if values[1].i32 & ~0x5 else ESUCCESS


cdef int32_t _fd_seek(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ESPIPE if _open(guest, values[0].i32) else EBADF


cdef int32_t _fd_sync(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ESUCCESS if _open(guest, values[0].i32) else EBADF


cdef int32_t _fd_not_a_file(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return EINVAL if _open(guest, values[0].i32) else EBADF


cdef int32_t _fd_renumber(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ENOTSUP if _open(guest, values[0].i32) and _open(guest, values[1].i32) else EBADF


cdef int32_t _no_directory(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return EBADF


cdef int32_t _no_socket(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return ENOTSOCK if _open(guest, values[0].i32) else EBADF


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
    if _doomed(guest):
        return guest_stop()
    cdef int32_t code = (<answer_t>env)(guest, caller, values)
    if _doomed(guest):
        return guest_stop()
    values[0].i32 = code
    return NULL


cdef wasm_trap_t *_proc_exit(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if not _doomed(guest):
        guest.exited = True
        guest.exit_code = values[0].i32
    return guest_stop()


# ---- waiting

cdef void _yielded(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    results[0].kind, results[0].of.i32 = WASMTIME_KIND_I32, ESUCCESS
    guest_go_on(continuation)
    if _doomed(guest):
        trap[0] = guest_stop()
    else:
        guest.yielded = False
        guest_park(guest, 0, _had_turn, continuation)


cdef bool_t _had_turn(void *env) noexcept nogil:
    """Not at the first poll, which gives the others their turn; at the second."""
    cdef guest_t *guest = <guest_t *>env
    if guest.yielded:
        return True
    guest.yielded = True
    return False


cdef uint8_t *_span(guest_t *guest, uint32_t at, uint64_t size) noexcept nogil:
    """As guest_span, for a guest that waits: there is no caller then."""
    if at + size > wasmtime_memory_data_size(guest.context, &guest.memory):
        return NULL
    return wasmtime_memory_data(guest.context, &guest.memory) + at


cdef int64_t _due_ns(guest_t *guest, const uint8_t *subscription) noexcept nogil:
    """When a clock subscription is due, on the monotonic clock; saturated, 0 if it is due now."""
    cdef int32_t clock = <int32_t>_u32(subscription + 16)
    cdef uint64_t timeout = _u64(subscription + 24)
    cdef int64_t now = monotonic_ns()
    cdef int64_t left
    if timeout > <uint64_t>INT64_MAX // 2:
        return INT64_MAX
    left = <int64_t>timeout
    if subscription[40] & ABSTIME:
        left -= _clock_now(guest, clock)
    return 0 if left <= 0 else now + left


cdef int32_t _event_of(
    guest_t *guest, const uint8_t *subscription, uint8_t *event, bint clocks_due, int64_t now
) noexcept nogil:
    """1 and the event, if the subscription has one now; 0 if it waits."""
    cdef int32_t fd = <int32_t>_u32(subscription + 16)
    cdef uint16_t error = ESUCCESS
    cdef uint64_t left = 0
    cdef uint8_t kind = subscription[8]
    if kind == EVENT_CLOCK:
        if not 0 <= fd <= CLOCK_THREAD_CPU:
            error = EINVAL
        elif not clocks_due and _due_ns(guest, subscription) > now:
            return 0
    elif kind > EVENT_WRITE:
        error = EINVAL
    elif not _open(guest, fd) or (fd == 0) != (kind == EVENT_READ):
        error = EBADF
    elif kind == EVENT_READ:
        left = guest.stdin_size - guest.stdin_at
    memset(event, 0, EVENT_BYTES)
    memcpy(event, subscription, 8)
    memcpy(event + 8, &error, 2)
    event[10] = kind
    memcpy(event + 16, &left, 8)
    return 1


cdef uint32_t _poll_scan(
    guest_t *guest, const uint8_t *subscriptions, uint8_t *events, uint32_t count,
    int64_t *wake_ns, int64_t due_until
) noexcept nogil:
    """Writes the events there are now; `wake_ns`: when the first clock is due."""
    cdef uint32_t index, found = 0
    cdef const uint8_t *subscription
    cdef int64_t due, now = monotonic_ns()
    wake_ns[0] = INT64_MAX
    for index in range(count):
        subscription = subscriptions + SUBSCRIPTION_BYTES * index
        due = INT64_MAX
        if subscription[8] == EVENT_CLOCK:
            due = _due_ns(guest, subscription) if due_until == 0 else _first_due(
                subscription, due_until, guest)
            if due < wake_ns[0]:
                wake_ns[0] = due
        found += _event_of(
            guest, subscription, events + EVENT_BYTES * found, due <= due_until, now)
    return found


cdef int64_t _first_due(
    const uint8_t *subscription, int64_t due_until, guest_t *guest
) noexcept nogil:
    """After a wait: a relative timeout counts from the wait's begin, kept in wait_began_ns."""
    if subscription[40] & ABSTIME:
        return _due_ns(guest, subscription)
    cdef uint64_t timeout = _u64(subscription + 24)
    if timeout > <uint64_t>INT64_MAX // 2:
        return INT64_MAX
    return guest.wait_began_ns + <int64_t>timeout


cdef bool_t _polled(void *env) noexcept nogil:
    """The wait is over: writes the events of the clocks that are due."""
    cdef guest_t *guest = <guest_t *>env
    cdef int64_t now = monotonic_ns(), wake_ns
    if now < guest.wake_ns:
        guest.parking = True
        return False
    cdef uint32_t found, count = guest.wait_at[2]
    cdef uint8_t *subscriptions = _span(
        guest, guest.wait_at[0], <uint64_t>count * SUBSCRIPTION_BYTES)
    cdef uint8_t *events = _span(guest, guest.wait_at[1], <uint64_t>count * EVENT_BYTES)
    found = _poll_scan(guest, subscriptions, events, count, &wake_ns, now)
    if found == 0:                 # the wall clock was set back meanwhile
        guest.wake_ns, guest.parking = wake_ns, True
        return False
    memcpy(_span(guest, guest.wait_at[3], 4), &found, 4)
    return True


cdef int32_t _poll_begin(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_t *args, bint *waits
) noexcept nogil:
    cdef uint32_t count = <uint32_t>args[2].of.i32, found
    cdef int index
    if count == 0 or count > SUBSCRIPTIONS_MAX:
        return EINVAL
    for index in range(4):
        guest.wait_at[index] = <uint32_t>args[index].of.i32
    cdef uint8_t *subscriptions = guest_span(
        guest, caller, guest.wait_at[0], <uint64_t>count * SUBSCRIPTION_BYTES)
    cdef uint8_t *events = guest_span(
        guest, caller, guest.wait_at[1], <uint64_t>count * EVENT_BYTES)
    if subscriptions == NULL or events == NULL:
        return EFAULT
    if guest_span(guest, caller, guest.wait_at[3], 4) == NULL:
        return EFAULT
    guest.wait_began_ns = monotonic_ns()
    found = _poll_scan(guest, subscriptions, events, count, &guest.wake_ns, 0)
    waits[0] = found == 0
    return _store_u32(guest, caller, args[3].of.i32, found)


cdef void _poll_oneoff(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    cdef bint waits = False
    guest_go_on(continuation)
    if _doomed(guest):
        trap[0] = guest_stop()
        return
    results[0].kind = WASMTIME_KIND_I32
    results[0].of.i32 = _poll_begin(guest, caller, args, &waits)
    if waits:
        guest_park(guest, guest.wake_ns, _polled, continuation)


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
_waiting_row(b"poll_oneoff", b"iiii", _poll_oneoff)
_row(b"proc_raise", b"i", _proc_raise)
_waiting_row(b"sched_yield", b"", _yielded)
_row(b"sock_accept", b"iii", _no_socket)
_row(b"sock_recv", b"iiiiii", _no_socket)
_row(b"sock_send", b"iiiii", _no_socket)
_row(b"sock_shutdown", b"ii", _no_socket)
_row(b"proc_exit", b"i", NULL)
_rows[_count - 1].call, _rows[_count - 1].results = _proc_exit, b""

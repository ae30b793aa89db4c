"""The guest's import table of module `spear`: checks pointers, then answers in place or waits.

Rule: no GIL, no Python object; lengths and pointers are checked as 64-bit sums against the memory's
size at that call; every call looks first whether the guest's end was asked for. A call that this
build does not serve links, answers -ENOSYS and warns once an execution.
Source: the guest ABI, sections 1 to 3 and 12.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.descriptors cimport FD_CHAT_SESSION, FD_TASK_CALL
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.hostchat cimport (
    cchat_close, cchat_create, cchat_ctl, cchat_recv, cchat_stream_read, cchat_write_msg)
from spear._core.hostfdctl cimport spear_fd_ctl
from spear._core.hostfds cimport (
    spear_epoll_close, spear_epoll_create, spear_epoll_ctl, spear_epoll_wait)
from spear._core.hoststreams cimport (
    user_stream_close, user_stream_ctl_open, user_stream_ctl_read, user_stream_open,
    user_stream_read, user_stream_write)
from spear._core.hosttasks cimport task_close, task_result, task_status, task_wait
from spear._core.imports cimport import_row, import_table, posted_row
from spear._core.objlease cimport lease_t
from spear._core.post cimport post_row
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    LOG_BYTES_MAX = 16384
    ROWS_MAX = 64
    SESSION = 1 << FD_CHAT_SESSION     # kinds of descriptors
    CALL = 1 << FD_TASK_CALL

cdef enum Op:                      # operation codes of calls that Python answers
    TASK_INVOKE = 32
    TASK_CANCEL = 34
    CHAT_CREATE = 40
    CHAT_WRITE = 41
    CHAT_TOOL = 42
    CHAT_SEND = 43
    CHAT_STREAM = 44
    EMBED = 45
    CHAT_CONTROL = 48

cdef enum:                         # bytes in of one call
    WORDS_MAX = 1 << 20
    INPUT_MAX = 16 << 20           # as much as a guest may give

cdef import_row _rows[ROWS_MAX]
cdef posted_row _posted[ROWS_MAX]
cdef uint32_t _count = 0
cdef uint32_t _first_object = 0    # row of the first object call


cdef wasm_trap_t *_time_now_ms(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    if load32(&guest_of(caller).kill) != 0:
        return guest_stop()
    values[0].i64 = guest_wall_ns(guest_of(caller)) // 1000000
    return NULL


cdef wasm_trap_t *_wall_time_s(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    if load32(&guest_of(caller).kill) != 0:
        return guest_stop()
    values[0].i64 = guest_wall_ns(guest_of(caller)) // 1000000000
    return NULL


cdef wasm_trap_t *_random_i64(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    if load32(&guest_of(caller).kill) != 0:
        return guest_stop()
    guest_random(guest_of(caller), &values[0].i64, 8)
    return NULL


cdef wasm_trap_t *_log(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if load32(&guest.kill) != 0:
        return guest_stop()
    cdef int32_t level = values[0].i32, at = values[1].i32, size = values[2].i32
    if size < 0 or size > LOG_BYTES_MAX:
        values[0].i32 = -EINVAL
        return NULL
    cdef uint8_t *text = abi_span(guest, caller, at, size)
    if text == NULL:
        values[0].i32 = -EFAULT
        return NULL
    if level < 0 or level > LEVEL_ERROR:
        level = LEVEL_INFO
    guest_charge(guest, size)
    guest_log(guest, level, STREAM_LOG, <const char *>text, size)
    values[0].i32 = 0
    return NULL


cdef bool_t _slept(void *env) noexcept nogil:
    cdef guest_t *guest = <guest_t *>env
    if guest_now_ns(guest) >= guest.wake_ns:
        return True
    guest.parking = True
    return False


cdef void _sleep_ms(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    cdef int32_t ms = args[0].of.i32
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
    elif ms != 0:
        guest_park(
            guest, guest_now_ns(guest) + <int64_t>ms * 1000000 if ms > 0 else INT64_MAX,
            _slept, continuation)


cdef wasm_trap_t *_answer(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    """For all that stand in files of their own and answer with an i32."""
    cdef guest_t *guest = guest_of(caller)
    if load32(&guest.kill) != 0:
        return guest_stop()
    values[0].i32 = (<answer_t>env)(guest, caller, values)
    return NULL


cdef wasm_trap_t *_unserved(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if load32(&guest.kill) != 0:
        return guest_stop()
    _warn_once(guest, <uint64_t>env, "is not served by this build")
    values[0].i32 = -ENOSYS
    return NULL


cdef void _warn_once(guest_t *guest, uint64_t number, const char *why) noexcept nogil:
    cdef char text[128]
    if not guest.warned >> number & 1:
        guest.warned |= <uint64_t>1 << number
        snprintf(text, 128, "spear.%s %s: it answers -ENOSYS", _rows[number].name, why)
        guest_log(guest, LEVEL_WARN, STREAM_LOG, text, strlen(text))


cdef wasm_trap_t *_object(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
) noexcept nogil:
    """Any object call, through the run's lease."""
    cdef guest_t *guest = guest_of(caller)
    cdef const lease_t *lease = <const lease_t *>guest.objects
    cdef uint64_t number = <uint64_t>env
    if load32(&guest.kill) != 0:
        return guest_stop()
    if lease == NULL:
        _warn_once(guest, number, "needs an object store, which this run has not")
        values[0].i32 = -ENOSYS
        return NULL
    values[0].i32 = lease.calls[number - _first_object](guest, caller, values)
    # A long list is cut short by the guest's end; what it gives then is not to be seen.
    return guest_stop() if load32(&guest.kill) != 0 else NULL


cdef import_table hostabi_table() noexcept nogil:
    cdef import_table table
    table.rows, table.count = _rows, _count
    return table


cdef void _row(
    const char *name, const char *params, const char *results,
    wasmtime_func_unchecked_callback_t call, wasmtime_func_async_callback_t park
) noexcept:
    global _count
    cdef import_row *row = &_rows[_count]
    row.module, row.name, row.params, row.results = b"spear", name, params, results
    row.served = call != NULL or park != NULL
    row.call = call if call != NULL or park != NULL else _unserved
    row.park = park
    row.env = <void *><uint64_t>_count
    _count += 1


cdef void _answer_row(const char *name, const char *params, answer_t answer) noexcept:
    _row(name, params, b"i", _answer, NULL)
    _rows[_count - 1].env = <void *>answer


cdef import_row *_posted_row(
    const char *name, const char *shape, Op op, uint32_t kinds=0, uint32_t bytes_max=WORDS_MAX
) noexcept:
    global _count
    cdef posted_row *posted = &_posted[_count]
    posted.module, posted.name, posted.shape = b"spear", name, shape
    posted.kinds, posted.op, posted.bytes_max = kinds, op, bytes_max
    post_row(&_rows[_count], posted)
    _count += 1
    return &_rows[_count - 1]


# Sections 2, 16 and 17 of the ABI, in its order; two NULLs: not served by this build.
_row(b"time_now_ms", b"", b"I", _time_now_ms, NULL)
_row(b"wall_time_s", b"", b"I", _wall_time_s, NULL)
_row(b"random_i64", b"", b"I", _random_i64, NULL)
_row(b"sleep_ms", b"i", b"", NULL, _sleep_ms)
_row(b"log", b"iii", b"i", _log, NULL)
_posted_row(b"cchat_create", b"", CHAT_CREATE).park = cchat_create
_posted_row(b"cchat_write_msg", b"dbb", CHAT_WRITE, SESSION, INPUT_MAX).park = cchat_write_msg
_posted_row(b"cchat_write_fn", b"dib", CHAT_TOOL, SESSION)
_posted_row(b"cchat_ctl", b"dix", CHAT_CONTROL, SESSION).park = cchat_ctl
_posted_row(b"cchat_send", b"di", CHAT_SEND, SESSION).reenters = True
_answer_row(b"cchat_recv", b"iii", cchat_recv)
_answer_row(b"cchat_close", b"i", cchat_close)
_row(b"rtasr_create", b"", b"i", NULL, NULL)
_row(b"rtasr_ctl", b"iiii", b"i", NULL, NULL)
_row(b"rtasr_write", b"iii", b"i", NULL, NULL)
_row(b"rtasr_read", b"iii", b"i", NULL, NULL)
_row(b"rtasr_close", b"i", b"i", NULL, NULL)
_row(b"mic_create", b"", b"i", NULL, NULL)
_row(b"mic_ctl", b"iiii", b"i", NULL, NULL)
_row(b"mic_read", b"iii", b"i", NULL, NULL)
_row(b"mic_close", b"i", b"i", NULL, NULL)
_answer_row(b"user_stream_open", b"ii", user_stream_open)
_answer_row(b"user_stream_read", b"iii", user_stream_read)
_answer_row(b"user_stream_write", b"iii", user_stream_write)
_answer_row(b"user_stream_close", b"i", user_stream_close)
_answer_row(b"user_stream_ctl_open", b"", user_stream_ctl_open)
_answer_row(b"user_stream_ctl_read", b"iii", user_stream_ctl_read)
_answer_row(b"spear_epoll_create", b"", spear_epoll_create)
_answer_row(b"spear_epoll_ctl", b"iiii", spear_epoll_ctl)
_row(b"spear_epoll_wait", b"iiii", b"i", NULL, spear_epoll_wait)
_answer_row(b"spear_epoll_close", b"i", spear_epoll_close)
_answer_row(b"spear_fd_ctl", b"iiii", spear_fd_ctl)
_first_object = _count
_row(b"object_put", b"iiiiIii", b"i", _object, NULL)
_row(b"object_get", b"iiiii", b"i", _object, NULL)
_row(b"object_stat", b"iiii", b"i", _object, NULL)
_row(b"object_list", b"iiiiiii", b"i", _object, NULL)
_row(b"object_delete", b"iiIi", b"i", _object, NULL)
_row(b"object_add_ref", b"iii", b"i", _object, NULL)
_row(b"object_remove_ref", b"iii", b"i", _object, NULL)
_row(b"object_pin", b"ii", b"i", _object, NULL)
_row(b"object_unpin", b"ii", b"i", _object, NULL)
_posted_row(b"cchat_stream", b"di", CHAT_STREAM, SESSION)
_answer_row(b"cchat_stream_read", b"iii", cchat_stream_read)
_posted_row(b"embed_send", b"bi", EMBED, 0, INPUT_MAX)
_posted_row(b"task_invoke", b"bbi", TASK_INVOKE, 0, INPUT_MAX)
_row(b"task_wait", b"ii", b"i", NULL, task_wait)
_answer_row(b"task_result", b"iii", task_result)
_answer_row(b"task_status", b"iii", task_status)
_posted_row(b"task_cancel", b"db", TASK_CANCEL, CALL)
_answer_row(b"task_close", b"i", task_close)

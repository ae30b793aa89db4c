"""Hostcalls of chat that need no Python: what came of a request is read, looked at and closed.

Rule: what a model is asked is Python's affair (posted rows); here a guest only reads handles, so
that reading an answer twice, or a stream in small steps, costs no hand-off. Source: the guest ABI,
sections 2 and 4.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.descriptors cimport *
from spear._core.drafts cimport draft_message, draft_setting, drafts_t
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.hostfds cimport abi_read
from spear._core.hosthandles cimport *
from spear._core.nativehandles cimport *
from spear._core.post cimport post_call, post_t
from spear._core.sync cimport load32

wasmtime_bind(engineapi.functions())

cdef enum:
    SESSION = 1 << FD_CHAT_SESSION
    RESPONSES = 1 << FD_CHAT_RESPONSE | 1 << FD_CHAT_STREAM
    SET_PARAM = 1
    GET_METRICS = 2


cdef int32_t cchat_recv(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef handle_t *handle = handle_readable(guest, values[0].i32, RESPONSES)
    if handle == NULL:
        return -EBADF
    return handle_give(guest, caller, handle, False, values[1].i32, values[2].i32)


cdef int32_t cchat_stream_read(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef handle_t *handle = handle_of(guest, values[0].i32, 1 << FD_CHAT_STREAM)
    cdef bint over
    cdef int32_t given
    if handle == NULL:
        return -EBADF
    over = handle_finished(handle)         # asked first: nothing can come after it
    given = abi_read(guest, caller, handle.channel, values[1].i32, values[2].i32)
    if given != -EAGAIN or not over:
        return given
    return abi_give(guest, caller, NULL, 0, values[1].i32, values[2].i32)


cdef int32_t cchat_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return handle_leave(guest, values[0].i32, SESSION | RESPONSES)


# ---- drafts: what needs no word of Python's yet

cdef bint _drafting(guest_t *guest) noexcept nogil:
    return guest.post != NULL and (<post_t *>guest.post).drafts


cdef drafts_t *_drafts(guest_t *guest, int32_t number) noexcept nogil:
    cdef handle_t *handle = handle_of(guest, number, SESSION)
    return NULL if handle == NULL else handle.drafts


cdef void _goes_on(
    guest_t *guest, int32_t status, wasmtime_val_t *results, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    """A call that was answered in place ends."""
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
    else:
        results[0].kind, results[0].of.i32 = WASMTIME_KIND_I32, status


cdef void cchat_create(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if _drafting(guest):
        _goes_on(
            guest, session_open(guest, (<post_t *>guest.post).hub), results, trap, continuation)
    else:
        post_call(env, caller, args, nargs, results, nresults, trap, continuation)


cdef bint _message(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_t *args
) noexcept nogil:
    cdef drafts_t *drafts = _drafts(guest, args[0].of.i32)
    cdef const uint8_t *role = NULL
    cdef const uint8_t *content = NULL
    if drafts != NULL:
        role = abi_span(guest, caller, args[1].of.i32, args[2].of.i32)
    if role != NULL:
        content = abi_span(guest, caller, args[3].of.i32, args[4].of.i32)
    return content != NULL and draft_message(
        drafts, role, <uint32_t>args[2].of.i32, content, <uint32_t>args[4].of.i32)


cdef void cchat_write_msg(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if _drafting(guest) and _message(guest, caller, args):
        _goes_on(guest, 0, results, trap, continuation)
    else:
        post_call(env, caller, args, nargs, results, nresults, trap, continuation)


cdef bint _setting(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_t *args
) noexcept nogil:
    cdef drafts_t *drafts = _drafts(guest, args[0].of.i32)
    cdef const uint8_t *text = NULL
    cdef uint32_t size
    if drafts != NULL:
        text = abi_span(guest, caller, args[3].of.i32, 4)
    if text == NULL:
        return False
    memcpy(&size, text, 4)
    text = abi_span(guest, caller, args[2].of.i32, <int32_t>size)
    return text != NULL and draft_setting(drafts, text, size)


# ---- control

cdef bint _is_response(guest_t *guest, int32_t number) noexcept nogil:
    """Open or closed."""
    cdef fd_mark *mark = fd_marked(<fd_table *>guest.fds, number)
    return mark != NULL and RESPONSES >> mark.kind & 1


cdef int32_t _ignored(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, int32_t len_at
) noexcept nogil:
    """A parameter that changes nothing, but must be somewhere."""
    cdef uint8_t *length = abi_span(guest, caller, len_at, 4)
    cdef uint32_t size
    if length == NULL:
        return -EFAULT
    memcpy(&size, length, 4)
    return 0 if abi_span(guest, caller, at, <int32_t>size) != NULL else -EFAULT


cdef int32_t _control(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_t *args
) noexcept nogil:
    cdef int32_t number = args[0].of.i32, cmd = args[1].of.i32
    cdef int32_t at = args[2].of.i32, len_at = args[3].of.i32
    cdef handle_t *handle = handle_readable(guest, number, SESSION | RESPONSES)
    if handle == NULL and not _is_response(guest, number):
        return -EBADF
    if cmd == SET_PARAM:                   # of a response; that of a session is posted
        return _ignored(guest, caller, at, len_at)
    if cmd != GET_METRICS:
        return -EINVAL
    if handle == NULL or handle.kind == FD_CHAT_SESSION:
        return -EBADF
    return handle_give(guest, caller, handle, True, at, len_at)


cdef void cchat_ctl(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    if args[1].of.i32 == SET_PARAM and not _is_response(guest, args[0].of.i32):
        if _drafting(guest) and _setting(guest, caller, args):
            _goes_on(guest, 0, results, trap, continuation)
            return
        post_call(env, caller, args, nargs, results, nresults, trap, continuation)
        return
    _goes_on(guest, _control(guest, caller, args), results, trap, continuation)

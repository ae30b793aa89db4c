"""Hostcalls of task calls that need no Python: wait for one, read what came of it, close it.

Rule: a call of a task is a handle that is finished when the task has ended; who waits for it waits
as for an epoll instance, by the guest's bell. Source: the guest ABI, section 2.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.channels cimport bell_arm, bell_disarm
from spear._core.descriptors cimport *
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.hosthandles cimport *
from spear._core.nativehandles cimport *
from spear._core.sync cimport load32

wasmtime_bind(engineapi.functions())

cdef enum:
    CALL = 1 << FD_TASK_CALL


cdef bool_t _waited(void *env) noexcept nogil:
    """One look; the bell is armed before it, so nothing falls between."""
    cdef guest_t *guest = <guest_t *>env
    cdef handle_t *handle = handle_of(guest, <int32_t>guest.wait_at[0], CALL)
    cdef bint ended
    bell_arm(guest.bell)
    ended = handle_finished(handle)
    if not ended and guest_now_ns(guest) < guest.wake_ns:
        guest.parking = True
        return False
    bell_disarm(guest.bell)
    guest.wait_result.of.i32 = 0 if ended else -ETIMEDOUT
    return True


cdef void task_wait(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    cdef int32_t ms = args[1].of.i32
    cdef int64_t wake_ns = 0
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
        return
    results[0].kind, results[0].of.i32 = WASMTIME_KIND_I32, -EBADF
    if handle_of(guest, args[0].of.i32, CALL) == NULL:
        return
    if ms != 0:
        wake_ns = guest_now_ns(guest) + <int64_t>ms * 1000000 if ms > 0 else INT64_MAX
    guest.wait_at[0] = <uint32_t>args[0].of.i32
    guest.wait_result = results            # kept by the engine until the wait is over
    guest_park(guest, wake_ns, _waited, continuation)


cdef int32_t _give(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values, bint about
) noexcept nogil:
    cdef handle_t *handle = handle_of(guest, values[0].i32, CALL)
    if handle == NULL:
        return -EBADF
    return handle_give(guest, caller, handle, about, values[1].i32, values[2].i32)


cdef int32_t task_result(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return _give(guest, caller, values, False)


cdef int32_t task_status(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return _give(guest, caller, values, True)


cdef int32_t task_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return fd_close(<fd_table *>guest.fds, values[0].i32, CALL)

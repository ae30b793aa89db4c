"""Hostcalls of epoll, and what every kind of descriptor needs: the guest's table, bell and reads.

Rule: a guest that uses no descriptor has neither table nor bell. A wait arms the bell before each
look, and is over when a look finds something or its time has come; its arguments stay in the guest
record, its records are written when it is over. Source: the guest ABI, sections 1, 10 and 12.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.channels cimport *
from spear._core.descriptors cimport *
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.states cimport executor_release, executor_retain, executor_t, executor_wake
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    RECORD_BYTES = 8


# ---- what a guest has once it uses descriptors

cdef void _hold(void *waiter) noexcept nogil:
    cdef guest_t *guest = <guest_t *>waiter
    guest_retain(guest)
    executor_retain(<executor_t *>guest.executor)


cdef void _wake(void *waiter) noexcept nogil:
    cdef guest_t *guest = <guest_t *>waiter
    cdef executor_t *executor = <executor_t *>guest.executor
    executor_wake(executor, guest)
    guest_release(guest)
    executor_release(executor)


cdef bell_t *guest_bell(guest_t *guest) noexcept nogil:
    cdef bell_t *bell = <bell_t *>load_ptr(<void **>&guest.bell)
    if bell != NULL:
        return bell
    bell = bell_new(guest, _hold, _wake)
    if bell == NULL or cas_ptr(<void **>&guest.bell, NULL, bell):
        return bell
    bell_release(bell)             # another thread was quicker
    return <bell_t *>load_ptr(<void **>&guest.bell)


cdef fd_table *guest_fds(guest_t *guest) noexcept nogil:
    if guest.fds == NULL:
        guest.fds = fd_table_new(guest.descriptors_max)
    return <fd_table *>guest.fds


cdef int32_t abi_read(
    guest_t *guest, wasmtime_caller_t *caller, channel_t *channel, int32_t out_at, int32_t len_at
) noexcept nogil:
    cdef uint8_t *length = abi_span(guest, caller, len_at, 4)
    cdef uint8_t *out
    cdef int64_t size
    cdef uint32_t room, have
    cdef item_t *item
    if length == NULL:
        return -EFAULT
    memcpy(&room, length, 4)
    size = channel_peek(channel)
    if size < 0:
        return -EAGAIN
    if size > room:
        have = <uint32_t>size
        memcpy(length, &have, 4)
        return -ENOSPC
    out = abi_span(guest, caller, out_at, <int32_t>size)
    if out == NULL:
        return -EFAULT
    item = channel_take(channel, size)
    if item == NULL:               # the oldest was dropped meanwhile, the next is larger
        return -EAGAIN
    have = item.size
    memcpy(out, item.data, have)
    memcpy(length, &have, 4)
    free(item)
    return <int32_t>have


# ---- epoll

cdef int32_t spear_epoll_create(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    if guest_fds(guest) == NULL or guest_bell(guest) == NULL:
        return -ENOMEM
    return epoll_open(<fd_table *>guest.fds)


cdef int32_t spear_epoll_ctl(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return epoll_control(
        <fd_table *>guest.fds, values[0].i32, values[1].i32, values[2].i32, values[3].i32)


cdef int32_t spear_epoll_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return fd_close(<fd_table *>guest.fds, values[0].i32, 1 << FD_EPOLL)


cdef int32_t _give_records(
    guest_t *guest, const epoll_t *epoll, uint32_t count, int32_t out_at, int32_t len_at
) noexcept nogil:
    cdef uint32_t size = count * RECORD_BYTES
    cdef uint8_t *length = abi_span(guest, NULL, len_at, 4)
    cdef uint8_t *out = abi_span(guest, NULL, out_at, <int32_t>size)
    if length == NULL or out == NULL:
        return -EFAULT
    epoll_write(epoll, out)
    memcpy(length, &size, 4)
    return <int32_t>count


cdef bool_t _waited(void *env) noexcept nogil:
    """One look, from first to last: the bell is armed before it, so nothing falls between."""
    cdef guest_t *guest = <guest_t *>env
    cdef epoll_t *epoll = <epoll_t *>fd_find(
        <fd_table *>guest.fds, <int32_t>guest.wait_at[0], FD_EPOLL).object
    cdef uint32_t count
    bell_arm(guest.bell)
    count = epoll_scan(epoll, guest.wait_at[3] // RECORD_BYTES)
    if count == 0 and guest_now_ns(guest) < guest.wake_ns:
        guest.parking = True
        return False
    bell_disarm(guest.bell)
    guest.wait_result.of.i32 = _give_records(
        guest, epoll, count, <int32_t>guest.wait_at[1], <int32_t>guest.wait_at[2])
    return True


cdef int32_t _check_wait(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_t *args
) noexcept nogil:
    cdef uint8_t *length = abi_span(guest, caller, args[2].of.i32, 4)
    cdef uint32_t room, least = RECORD_BYTES
    if fd_find(<fd_table *>guest.fds, args[0].of.i32, FD_EPOLL) == NULL:
        return -EBADF
    if length == NULL:
        return -EFAULT
    memcpy(&room, length, 4)
    if room < least:
        memcpy(length, &least, 4)
        return -ENOSPC
    if abi_span(guest, caller, args[1].of.i32, RECORD_BYTES) == NULL:
        return -EFAULT
    guest.wait_at[0], guest.wait_at[1] = <uint32_t>args[0].of.i32, <uint32_t>args[1].of.i32
    guest.wait_at[2], guest.wait_at[3] = <uint32_t>args[2].of.i32, room
    return 0


cdef void spear_epoll_wait(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    cdef int32_t ms = args[3].of.i32
    cdef int64_t wake_ns = 0
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
        return
    results[0].kind, results[0].of.i32 = WASMTIME_KIND_I32, _check_wait(guest, caller, args)
    if results[0].of.i32 < 0:
        return
    if ms != 0:
        wake_ns = guest_now_ns(guest) + <int64_t>ms * 1000000 if ms > 0 else INT64_MAX
    guest.wait_result = results    # kept by the engine until the wait is over
    guest_park(guest, wake_ns, _waited, continuation)

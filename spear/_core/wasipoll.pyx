"""WASI's clocks and waiting: poll_oneoff and sched_yield.

Rule: a wait keeps its arguments in the guest record; its events are written when it is over, into
memory that was checked when it began (memory never shrinks). Source: WASI snapshot preview 1.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.sync cimport *
from spear._core.wasibits cimport *
from spear._core.wasifiles cimport wasi_file_ready
from spear._core.wasinumbers cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    SUBSCRIPTION_BYTES = 48
    EVENT_BYTES = 32
    SUBSCRIPTIONS_MAX = 1024
    EVENT_CLOCK = 0
    EVENT_READ = 1
    EVENT_WRITE = 2
    ABSTIME = 1


cdef int64_t wasi_clock_now(guest_t *guest, int32_t clock) noexcept nogil:
    """CPU clocks count the execution's own time from its start."""
    if clock == CLOCK_REALTIME:
        return guest_wall_ns(guest)
    cdef int64_t now = guest_now_ns(guest)
    return now if clock == 1 else now - guest.began_ns


cdef void wasi_sched_yield(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    results[0].kind, results[0].of.i32 = WASMTIME_KIND_I32, ESUCCESS
    guest_go_on(continuation)
    if wasi_doomed(guest):
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


cdef int64_t _due_ns(guest_t *guest, const uint8_t *subscription) noexcept nogil:
    """When a clock subscription is due, on the monotonic clock; saturated, 0 if it is due now."""
    cdef int32_t clock = <int32_t>u32_at(subscription + 16)
    cdef uint64_t timeout = u64_at(subscription + 24)
    cdef int64_t now = guest_now_ns(guest)
    cdef int64_t left
    if timeout > <uint64_t>INT64_MAX // 2:
        return INT64_MAX
    left = <int64_t>timeout
    if subscription[40] & ABSTIME:
        left -= wasi_clock_now(guest, clock)
    return 0 if left <= 0 else now + left


cdef int32_t _event_of(
    guest_t *guest, const uint8_t *subscription, uint8_t *event, bint clocks_due, int64_t now
) noexcept nogil:
    """1 and the event, if the subscription has one now; 0 if it waits."""
    cdef int32_t fd = <int32_t>u32_at(subscription + 16)
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
    else:
        error = <uint16_t>wasi_file_ready(guest, fd, kind == EVENT_READ, &left)
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
    cdef int64_t due, now = guest_now_ns(guest)
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
    cdef uint64_t timeout = u64_at(subscription + 24)
    if timeout > <uint64_t>INT64_MAX // 2:
        return INT64_MAX
    return guest.wait_began_ns + <int64_t>timeout


cdef bool_t _polled(void *env) noexcept nogil:
    """The wait is over: writes the events of the clocks that are due."""
    cdef guest_t *guest = <guest_t *>env
    cdef int64_t now = guest_now_ns(guest), wake_ns
    if now < guest.wake_ns:
        guest.parking = True
        return False
    cdef uint32_t found, count = guest.wait_at[2]
    cdef uint8_t *subscriptions = guest_span(
        guest, NULL, guest.wait_at[0], <uint64_t>count * SUBSCRIPTION_BYTES)
    cdef uint8_t *events = guest_span(guest, NULL, guest.wait_at[1], <uint64_t>count * EVENT_BYTES)
    found = _poll_scan(guest, subscriptions, events, count, &wake_ns, now)
    if found == 0:                 # the wall clock was set back meanwhile
        guest.wake_ns, guest.parking = wake_ns, True
        return False
    memcpy(guest_span(guest, NULL, guest.wait_at[3], 4), &found, 4)
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
    guest.wait_began_ns = guest_now_ns(guest)
    found = _poll_scan(guest, subscriptions, events, count, &guest.wake_ns, 0)
    waits[0] = found == 0
    memcpy(guest_span(guest, caller, guest.wait_at[3], 4), &found, 4)
    return ESUCCESS


cdef void wasi_poll_oneoff(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    cdef guest_t *guest = guest_of(caller)
    cdef bint waits = False
    guest_go_on(continuation)
    if wasi_doomed(guest):
        trap[0] = guest_stop()
        return
    results[0].kind = WASMTIME_KIND_I32
    results[0].of.i32 = _poll_begin(guest, caller, args, &waits)
    if waits:
        guest_park(guest, guest.wake_ns, _polled, continuation)

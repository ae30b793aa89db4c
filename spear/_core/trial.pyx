"""Module `spear_trial`: one call of each kind that Python answers, for tests and benchmarks.

Rule: linked only by `Engine(trial=True)`; every other engine refuses a module that imports it.
`noop` is answered in place, so that what a hostcall costs can be measured; `relay` parks its guest
and wakes the one that waits longest in it, so that what a park and a wake cost can be.
"""

from libc.stdint cimport INT64_MAX, int32_t, uint32_t

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.imports cimport import_row, import_table, posted_row
from spear._core.post cimport post_row
from spear._core.states cimport executor_t, executor_wake
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

ECHO, ADD, PAUSE, CONTROL, MIXED, SEND = range(240, 246)
BYTES_MAX = 1 << 20

cdef enum:
    RELAY_MAX = 16384          # a power of two

# Of the process, as only one test relays at a time: who waits, the longest first.
cdef struct relay_t:
    pthread_mutex_t lock
    guest_t *waiting[RELAY_MAX]
    uint32_t first             # both count on; their places are modulo RELAY_MAX
    uint32_t end
    uint32_t left              # how many said that they come no more

cdef relay_t _relay
pthread_mutex_init(&_relay.lock, NULL)
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


cdef guest_t *_longest_waiting(guest_t *comes, uint32_t width) noexcept nogil:
    """Takes in who comes; who is to go on now, NULL while some of `width` have not come."""
    cdef guest_t *goes = NULL
    pthread_mutex_lock(&_relay.lock)
    if comes == NULL:
        _relay.left += 1
    else:
        guest_retain(comes)
        _relay.waiting[_relay.end % RELAY_MAX] = comes
        _relay.end += 1
    if _relay.end == _relay.first:
        _relay.left = 0            # the last has left
    elif comes == NULL or _relay.end - _relay.first + _relay.left >= width:
        goes = _relay.waiting[_relay.first % RELAY_MAX]
        _relay.first += 1
    pthread_mutex_unlock(&_relay.lock)
    return goes


cdef bool_t _has_turn(void *env) noexcept nogil:
    cdef guest_t *guest = <guest_t *>env
    guest.parking = load32(&guest.relayed) == 0
    return not guest.parking


cdef void _relay_on(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    """relay(width): waits until `width` guests wait or have left, and its turn has come; of 0
    width it leaves, and hands its turn on."""
    cdef guest_t *guest = guest_of(caller)
    cdef uint32_t width = <uint32_t>args[0].of.i32
    cdef guest_t *goes
    results[0].kind, results[0].of.i32 = WASMTIME_KIND_I32, 0
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
        return
    if width != 0:
        store32(&guest.relayed, 0)
        guest_park(guest, INT64_MAX, _has_turn, continuation)
    goes = _longest_waiting(guest if width != 0 else NULL, min(width, <uint32_t>RELAY_MAX))
    if goes != NULL:
        store32(&goes.relayed, 1)
        executor_wake(<executor_t *>goes.executor, goes)
        guest_release(goes)


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
    row = _row(b"relay", b"i", 0)
    row.park, row.posted = _relay_on, NULL
    _row(b"echo", b"bo", ECHO)
    _row(b"add", b"ii", ADD)
    _row(b"pause", b"", PAUSE)
    _row(b"control", b"iix", CONTROL)
    _row(b"mixed", b"iIbb", MIXED)
    _row(b"send", b"ii", SEND).reenters = True


_fill()

"""Bounded queues of whole messages, and the bell that wakes a guest which waits for them.

A channel is counted and safe for any thread. Its lock is held for pointer work only: messages are
copied, and freed, outside. Who changes a channel tells all who may wait for it, after the change.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from spear._core.hub cimport hub_t
from spear._core.sync cimport pthread_mutex_t

cdef enum:                     # the readiness bits of the ABI
    CHANNEL_IN = 0x001
    CHANNEL_OUT = 0x004
    CHANNEL_ERR = 0x008        # this or the next one: takes no more
    CHANNEL_HUP = 0x010

cdef enum PutResult:
    PUT_DONE = 0
    PUT_FULL = 1               # no room now
    PUT_CLOSED = 2             # closed, or in error
    PUT_TOO_LARGE = 3          # never fits
    PUT_NO_MEMORY = 4

cdef enum Wanted:              # what a waiter waits for; the end of the channel is told to both
    WANT_ITEM = 0
    WANT_ROOM = 1

ctypedef void (*bell_call_t)(void *waiter) noexcept nogil


cdef struct bell_t:            # wakes one waiter, which may look at any number of channels
    int64_t refs
    int32_t waiting            # set before the waiter looks, taken by who rings
    pthread_mutex_t lock       # of `waiter`
    void *waiter               # NULL once it has ended
    bell_call_t hold           # keeps it for `wake`; called under the lock
    bell_call_t wake           # wakes it and lets it go


cdef struct item_t:
    item_t *next
    int64_t put_ns             # monotonic
    uint32_t size
    uint8_t data[1]            # `size` bytes, allocated behind


cdef struct watch_t:           # an event loop that is to be told once
    watch_t *next
    hub_t *hub


cdef struct channel_t:
    int64_t refs
    bell_t *bell               # or NULL: atomic, set once
    int64_t items_max
    int64_t bytes_max
    bint drop_oldest           # when full, instead of refusing
    int32_t events             # futex: counts changes
    int32_t waiters
    pthread_mutex_t lock       # of all below
    item_t *first
    item_t *last
    int64_t items
    int64_t bytes
    uint64_t dropped           # by the policy, or because nobody would read them
    uint32_t flags             # CHANNEL_ERR, CHANNEL_HUP
    watch_t *watches[2]        # by Wanted


cdef struct channel_state:     # all of one moment
    int64_t items
    int64_t bytes
    uint64_t dropped
    uint32_t flags


# `waiter` is not counted by the bell: bell_silence comes before its end.
cdef bell_t *bell_new(void *waiter, bell_call_t hold, bell_call_t wake) noexcept nogil
cdef void bell_retain(bell_t *bell) noexcept nogil
cdef void bell_release(bell_t *bell) noexcept nogil
# Before the waiter looks whether there is anything: what comes from now on rings.
cdef void bell_arm(bell_t *bell) noexcept nogil
cdef void bell_disarm(bell_t *bell) noexcept nogil
# After a change: wakes the waiter if it waits. Any thread.
cdef void bell_ring(bell_t *bell) noexcept nogil
# The waiter ends: it is never woken again.
cdef void bell_silence(bell_t *bell) noexcept nogil

# NULL: no memory. Takes a reference to the bell.
cdef channel_t *channel_new(
    int64_t items_max, int64_t bytes_max, bint drop_oldest, bell_t *bell) noexcept nogil
cdef void channel_retain(channel_t *channel) noexcept nogil
cdef void channel_release(channel_t *channel) noexcept nogil
# Has its changes told to this bell from now on; of a channel that was made without one.
cdef void channel_bind(channel_t *channel, bell_t *bell) noexcept nogil
# Copies one message in.
cdef PutResult channel_put(channel_t *channel, const void *data, uint32_t size) noexcept nogil
# Messages that were made before, in their order, until one is not taken: that one and those behind
# it are left in the list. All that were are told once.
cdef PutResult channel_put_items(channel_t *channel, item_t **items) noexcept nogil
# NULL: no memory.
cdef item_t *item_new(const void *data, uint32_t size) noexcept nogil
cdef void items_free(item_t *items) noexcept nogil
# Size of the first message; -1 if there is none.
cdef int64_t channel_peek(channel_t *channel) noexcept nogil
# Takes the first message if it is of at most `room` bytes; the caller frees it.
cdef item_t *channel_take(channel_t *channel, int64_t room) noexcept nogil
# Takes no more; what is in it can still be read. `flag` is CHANNEL_ERR or CHANNEL_HUP.
cdef void channel_close(channel_t *channel, uint32_t flag) noexcept nogil
# Drops the messages put before `until_ns`, and counts them.
cdef void channel_drop(channel_t *channel, int64_t until_ns) noexcept nogil
cdef channel_state channel_look(channel_t *channel) noexcept nogil
# Whether a wait for a message, or for room for one of `size` bytes, is over.
cdef bint channel_ready(channel_t *channel, Wanted wanted, int64_t size) noexcept nogil
# As channel_ready; where it is False the hub is told at the next change that may matter. Without
# memory for that it is True, so that the waiter looks again.
cdef bint channel_watch(
    channel_t *channel, hub_t *hub, Wanted wanted, int64_t size) noexcept nogil
cdef void channel_unwatch(channel_t *channel, hub_t *hub) noexcept nogil
# Waits on this thread until it is ready or `until_ns`; whether it is.
cdef bint channel_wait(
    channel_t *channel, Wanted wanted, int64_t size, int64_t until_ns) noexcept nogil

"""Bounded queues of whole messages, told to guests, threads and event loops without the GIL.

Rule: publish, then tell. Who waits says so first and looks then; who changes something changes it
first and asks then whether somebody waits. So one of the two always sees the other, and no wake-up
is lost (tests/reference/bell.py explores every order). Nothing is told while the lock is held.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from spear._core.hub cimport hub_push, hub_release, hub_retain, hub_t
from spear._core.sync cimport *


# ---- the bell

cdef bell_t *bell_new(void *waiter, bell_call_t hold, bell_call_t wake) noexcept nogil:
    cdef bell_t *bell = <bell_t *>calloc(1, sizeof(bell_t))
    if bell != NULL:
        pthread_mutex_init(&bell.lock, NULL)
        bell.refs, bell.waiter, bell.hold, bell.wake = 1, waiter, hold, wake
    return bell


cdef void bell_retain(bell_t *bell) noexcept nogil:
    add64(&bell.refs, 1)


cdef void bell_release(bell_t *bell) noexcept nogil:
    if add64(&bell.refs, -1) == 0:
        pthread_mutex_destroy(&bell.lock)
        free(bell)


cdef void bell_arm(bell_t *bell) noexcept nogil:
    swap32(&bell.waiting, 1)


cdef void bell_disarm(bell_t *bell) noexcept nogil:
    store32(&bell.waiting, 0)


cdef void bell_ring(bell_t *bell) noexcept nogil:
    """An exchange, not a look: it orders the caller's change before the waiter's next look."""
    cdef void *waiter
    if swap32(&bell.waiting, 0) == 0:
        return
    pthread_mutex_lock(&bell.lock)
    waiter = bell.waiter
    if waiter != NULL:
        bell.hold(waiter)          # it may end from here on, but not vanish
    pthread_mutex_unlock(&bell.lock)
    if waiter != NULL:
        bell.wake(waiter)


cdef void bell_silence(bell_t *bell) noexcept nogil:
    pthread_mutex_lock(&bell.lock)
    bell.waiter = NULL
    pthread_mutex_unlock(&bell.lock)


# ---- a channel's life

cdef channel_t *channel_new(
    int64_t items_max, int64_t bytes_max, bint drop_oldest, bell_t *bell
) noexcept nogil:
    cdef channel_t *channel = <channel_t *>calloc(1, sizeof(channel_t))
    if channel == NULL:
        return NULL
    pthread_mutex_init(&channel.lock, NULL)
    channel.refs, channel.bell = 1, bell
    channel.items_max, channel.bytes_max, channel.drop_oldest = items_max, bytes_max, drop_oldest
    if bell != NULL:
        bell_retain(bell)
    return channel


cdef void channel_bind(channel_t *channel, bell_t *bell) noexcept nogil:
    """Under the lock: whoever changes the channel after a look sees the bell."""
    bell_retain(bell)
    pthread_mutex_lock(&channel.lock)
    swap_ptr(<void **>&channel.bell, bell)
    pthread_mutex_unlock(&channel.lock)


cdef void channel_retain(channel_t *channel) noexcept nogil:
    add64(&channel.refs, 1)


cdef void channel_release(channel_t *channel) noexcept nogil:
    cdef int wanted
    if add64(&channel.refs, -1) != 0:
        return
    items_free(channel.first)
    for wanted in range(2):
        _free_watches(channel.watches[wanted])
    if channel.bell != NULL:
        bell_release(channel.bell)
    pthread_mutex_destroy(&channel.lock)
    free(channel)


cdef void _let_go(void *channel) noexcept nogil:
    channel_release(<channel_t *>channel)


cdef void items_free(item_t *item) noexcept nogil:
    cdef item_t *following
    while item != NULL:
        following = item.next
        free(item)
        item = following


cdef void _free_watches(watch_t *watch) noexcept nogil:
    cdef watch_t *following
    while watch != NULL:
        following = watch.next
        hub_release(watch.hub)
        free(watch)
        watch = following


# ---- telling

cdef watch_t *_taken(channel_t *channel, Wanted wanted) noexcept nogil:
    """Under the lock: the loops that are to be told of a change."""
    cdef watch_t *watches = channel.watches[<int>wanted]
    channel.watches[<int>wanted] = NULL
    return watches


cdef void _tell(channel_t *channel, watch_t *watches) noexcept nogil:
    """After a change, without the lock: threads, the guest, then event loops."""
    cdef watch_t *watch = watches
    cdef bell_t *bell = <bell_t *>load_ptr(<void **>&channel.bell)
    add32(&channel.events, 1)
    if load32(&channel.waiters) != 0:
        futex_wake(&channel.events, 0x7FFFFFFF)
    if bell != NULL:
        bell_ring(bell)
    while watch != NULL:
        channel_retain(channel)
        hub_push(watch.hub, channel, _let_go)
        watch = watch.next
    _free_watches(watches)


# ---- messages in

cdef bint _fits(channel_t *channel, int64_t size) noexcept nogil:
    return channel.items < channel.items_max and channel.bytes + size <= channel.bytes_max


cdef item_t *_unlinked(channel_t *channel) noexcept nogil:
    """Under the lock: the first message, which no longer counts; there must be one."""
    cdef item_t *item = channel.first
    channel.first = item.next
    if channel.first == NULL:
        channel.last = NULL
    channel.items -= 1
    channel.bytes -= item.size
    item.next = NULL
    return item


cdef PutResult _link(channel_t *channel, item_t *item, item_t **dropped) noexcept nogil:
    """Under the lock."""
    cdef item_t *oldest
    if channel.flags != 0:
        return PUT_CLOSED
    if item.size > channel.bytes_max or channel.items_max < 1:
        return PUT_TOO_LARGE
    while channel.drop_oldest and not _fits(channel, item.size):
        oldest = _unlinked(channel)
        oldest.next, dropped[0] = dropped[0], oldest
        channel.dropped += 1
    if not _fits(channel, item.size):
        return PUT_FULL
    if channel.last == NULL:
        channel.first = item
    else:
        channel.last.next = item
    channel.last = item
    channel.items += 1
    channel.bytes += item.size
    return PUT_DONE


cdef item_t *item_new(const void *data, uint32_t size) noexcept nogil:
    cdef item_t *item = <item_t *>malloc(sizeof(item_t) + size)
    if item != NULL:
        item.next, item.size = NULL, size
        if size > 0:
            memcpy(item.data, data, size)
    return item


cdef PutResult channel_put_items(channel_t *channel, item_t **items) noexcept nogil:
    cdef item_t *item
    cdef item_t *dropped = NULL
    cdef watch_t *watches = NULL
    cdef PutResult result = PUT_DONE
    cdef int64_t now_ns = monotonic_ns()
    cdef bint changed = False
    pthread_mutex_lock(&channel.lock)
    while result == PUT_DONE and items[0] != NULL:
        item = items[0]
        items[0], item.next, item.put_ns = item.next, NULL, now_ns
        result = _link(channel, item, &dropped)
        if result == PUT_DONE:
            changed = True
        else:
            item.next, items[0] = items[0], item
    if changed:
        watches = _taken(channel, WANT_ITEM)
    pthread_mutex_unlock(&channel.lock)
    items_free(dropped)
    if changed:
        _tell(channel, watches)
    return result


cdef PutResult channel_put(channel_t *channel, const void *data, uint32_t size) noexcept nogil:
    cdef item_t *item = item_new(data, size)
    if item == NULL:
        return PUT_NO_MEMORY
    cdef PutResult result = channel_put_items(channel, &item)
    items_free(item)
    return result


# ---- messages out

cdef int64_t channel_peek(channel_t *channel) noexcept nogil:
    pthread_mutex_lock(&channel.lock)
    cdef int64_t size = channel.first.size if channel.first != NULL else -1
    pthread_mutex_unlock(&channel.lock)
    return size


cdef item_t *channel_take(channel_t *channel, int64_t room) noexcept nogil:
    cdef item_t *item = NULL
    cdef watch_t *watches = NULL
    pthread_mutex_lock(&channel.lock)
    if channel.first != NULL and channel.first.size <= room:
        item = _unlinked(channel)
        watches = _taken(channel, WANT_ROOM)
    pthread_mutex_unlock(&channel.lock)
    if item != NULL:
        _tell(channel, watches)
    return item


cdef void channel_drop(channel_t *channel, int64_t until_ns) noexcept nogil:
    cdef item_t *dropped = NULL
    cdef item_t *item
    cdef watch_t *watches = NULL
    pthread_mutex_lock(&channel.lock)
    while channel.first != NULL and channel.first.put_ns < until_ns:
        item = _unlinked(channel)
        item.next, dropped = dropped, item
        channel.dropped += 1
    if dropped != NULL:
        watches = _taken(channel, WANT_ROOM)
    pthread_mutex_unlock(&channel.lock)
    if dropped != NULL:
        items_free(dropped)
        _tell(channel, watches)


# ---- the end

cdef void channel_close(channel_t *channel, uint32_t flag) noexcept nogil:
    cdef watch_t *items
    cdef watch_t *rooms
    pthread_mutex_lock(&channel.lock)
    channel.flags |= flag
    items, rooms = _taken(channel, WANT_ITEM), _taken(channel, WANT_ROOM)
    pthread_mutex_unlock(&channel.lock)
    _tell(channel, items)
    _tell(channel, rooms)


# ---- looking and waiting

cdef channel_state channel_look(channel_t *channel) noexcept nogil:
    cdef channel_state state
    pthread_mutex_lock(&channel.lock)
    state.items, state.bytes = channel.items, channel.bytes
    state.dropped, state.flags = channel.dropped, channel.flags
    pthread_mutex_unlock(&channel.lock)
    return state


cdef bint _ready(channel_t *channel, Wanted wanted, int64_t size) noexcept nogil:
    """Under the lock."""
    if channel.flags != 0:
        return True
    if wanted == WANT_ITEM:
        return channel.first != NULL
    return channel.drop_oldest or size > channel.bytes_max or _fits(channel, size)


cdef bint channel_ready(channel_t *channel, Wanted wanted, int64_t size) noexcept nogil:
    pthread_mutex_lock(&channel.lock)
    cdef bint ready = _ready(channel, wanted, size)
    pthread_mutex_unlock(&channel.lock)
    return ready


cdef bint channel_watch(
    channel_t *channel, hub_t *hub, Wanted wanted, int64_t size
) noexcept nogil:
    cdef watch_t *made = <watch_t *>malloc(sizeof(watch_t))
    cdef watch_t *watch
    pthread_mutex_lock(&channel.lock)
    cdef bint ready = made == NULL or _ready(channel, wanted, size)
    watch = channel.watches[<int>wanted]
    while watch != NULL and watch.hub != hub:
        watch = watch.next
    if not ready and watch == NULL:
        hub_retain(hub)
        made.hub, made.next = hub, channel.watches[<int>wanted]
        channel.watches[<int>wanted], made = made, NULL
    pthread_mutex_unlock(&channel.lock)
    free(made)
    return ready


cdef void channel_unwatch(channel_t *channel, hub_t *hub) noexcept nogil:
    cdef watch_t *found = NULL
    cdef watch_t *watch
    cdef watch_t **at
    cdef int wanted
    pthread_mutex_lock(&channel.lock)
    for wanted in range(2):
        at = &channel.watches[wanted]
        while at[0] != NULL and at[0].hub != hub:
            at = &at[0].next
        if at[0] != NULL:
            watch, at[0] = at[0], at[0].next
            watch.next, found = found, watch
    pthread_mutex_unlock(&channel.lock)
    _free_watches(found)


cdef bint channel_wait(
    channel_t *channel, Wanted wanted, int64_t size, int64_t until_ns
) noexcept nogil:
    cdef int32_t seen
    cdef int64_t left
    cdef bint ready = False
    add32(&channel.waiters, 1)
    while True:
        seen = load32(&channel.events)
        ready = channel_ready(channel, wanted, size)
        left = until_ns - monotonic_ns()
        if ready or left <= 0:
            break
        futex_wait(&channel.events, seen, left)
    add32(&channel.waiters, -1)
    return ready

"""User streams of one execution: whole SSF frames between a guest and its clients.

Rule: state first, then the channels, which tell. A frame is checked by its header alone and never
changed. The order of locks is hub, then channel; nothing is told under the hub's lock.
Source: the guest ABI, section 9.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from spear._core.channels cimport *
from spear._core.sync cimport *

from spear.errors import InvalidArgument

cdef enum:
    VERSION = 1

FRAME_BYTES = FRAME_BYTES_MAX


# ---- frames

cdef int64_t frame_stream(const uint8_t *data, int64_t size) noexcept nogil:
    cdef uint16_t version, header
    cdef uint32_t id, meta, payload
    if size < FRAME_HEADER_BYTES or memcmp(data, b"SPST", 4) != 0:
        return -1
    memcpy(&version, data + 4, 2)
    memcpy(&header, data + 6, 2)
    memcpy(&id, data + 12, 4)
    memcpy(&meta, data + 24, 4)
    memcpy(&payload, data + 28, 4)
    if version != VERSION or header < FRAME_HEADER_BYTES:
        return -1
    if <uint64_t>header + meta + payload != <uint64_t>size:
        return -1
    return id


def check_frame(const unsigned char[::1] frame not None):
    """The stream id in a frame's header; see streams.pyi."""
    cdef int64_t size = frame.shape[0], id
    if size > FRAME_BYTES_MAX:
        raise InvalidArgument(f"a frame of {size} bytes; at most {FRAME_BYTES_MAX} are carried")
    id = frame_stream(&frame[0], size) if size > 0 else -1
    if id < 0:
        raise InvalidArgument(
            f"{size} bytes that are no SSF v1 frame: expected 'SPST', version 1, a header of 32 "
            "bytes or more, and lengths that add up to the whole")
    return id


# ---- the hub

cdef streams_t *streams_new(bell_t *bell) noexcept nogil:
    cdef streams_t *hub = <streams_t *>calloc(1, sizeof(streams_t))
    if hub == NULL:
        return NULL
    hub.refs = 1
    hub.events = channel_new(
        STREAM_EVENTS_MAX, STREAM_EVENTS_MAX * EVENT_BYTES, True, bell)
    if hub.events == NULL:
        free(hub)
        return NULL
    hub.bell = bell
    bell_retain(bell)
    pthread_mutex_init(&hub.lock, NULL)
    return hub


cdef void streams_retain(streams_t *hub) noexcept nogil:
    add64(&hub.refs, 1)


cdef void streams_release(streams_t *hub) noexcept nogil:
    cdef int32_t index
    if add64(&hub.refs, -1) != 0:
        return
    for index in range(hub.count):
        _release(hub.items[index])
    channel_release(hub.events)
    bell_release(hub.bell)
    pthread_mutex_destroy(&hub.lock)
    free(hub)


cdef stream_t *_new_stream(streams_t *hub, int32_t id) noexcept nogil:
    cdef stream_t *stream = <stream_t *>calloc(1, sizeof(stream_t))
    if stream == NULL:
        return NULL
    stream.refs, stream.id, stream.hub = 1, id, hub
    stream.unread_ns_max = <int64_t>UNREAD_S_MAX * 1000000000
    stream.inbound = channel_new(STREAM_FRAMES_MAX, STREAM_BYTES_MAX, False, hub.bell)
    stream.outbound = channel_new(STREAM_FRAMES_MAX, STREAM_BYTES_MAX, False, hub.bell)
    if stream.inbound == NULL or stream.outbound == NULL:
        _release(stream)
        return NULL
    return stream


cdef int32_t _place(streams_t *hub, int32_t id) noexcept nogil:
    """Under the lock: where the stream stands; `count` if it is not there."""
    cdef int32_t index = 0
    while index < hub.count and hub.items[index].id != id:
        index += 1
    return index


cdef stream_t *streams_get(streams_t *hub, int32_t id) noexcept nogil:
    cdef stream_t *stream = NULL
    cdef bint ended
    pthread_mutex_lock(&hub.lock)
    cdef int32_t at = _place(hub, id)
    if at == hub.count and at < STREAMS_MAX:
        stream = _new_stream(hub, id)
        if stream != NULL:
            hub.items[at] = stream
            hub.count += 1
    elif at < hub.count:
        stream = hub.items[at]
    if stream != NULL:
        stream_retain(stream)
    ended = hub.ended
    pthread_mutex_unlock(&hub.lock)
    if ended and stream != NULL:
        _end(stream)
    return stream


cdef bint _unlink(streams_t *hub, stream_t *stream) noexcept nogil:
    """Under the lock: out of the session, unless it is out already; the hub's reference stays."""
    cdef int32_t at = 0
    while at < hub.count and hub.items[at] != stream:
        at += 1
    if at == hub.count:
        return False
    hub.count -= 1
    hub.items[at] = hub.items[hub.count]
    return True


cdef void _tell_event(streams_t *hub, uint32_t id, uint32_t kind) noexcept nogil:
    cdef uint32_t event[2]
    event[0], event[1] = id, kind
    channel_put(hub.events, event, EVENT_BYTES)


cdef void streams_close(streams_t *hub) noexcept nogil:
    cdef stream_t *taken[STREAMS_MAX]
    cdef int32_t index, count
    pthread_mutex_lock(&hub.lock)
    count, hub.count = hub.count, 0
    for index in range(count):
        taken[index] = hub.items[index]
    pthread_mutex_unlock(&hub.lock)
    for index in range(count):
        _shut(taken[index], CHANNEL_HUP)
        _release(taken[index])
    _tell_event(hub, 0, EVENT_SESSION_CLOSED)


cdef void streams_end(streams_t *hub) noexcept nogil:
    cdef stream_t *held[STREAMS_MAX]
    cdef int32_t index, count
    pthread_mutex_lock(&hub.lock)
    hub.ended = True
    count = hub.count
    for index in range(count):
        held[index] = hub.items[index]
        stream_retain(held[index])
    pthread_mutex_unlock(&hub.lock)
    for index in range(count):
        _end(held[index])
        _release(held[index])


# ---- one stream

cdef void stream_retain(stream_t *stream) noexcept nogil:
    add64(&stream.refs, 1)


cdef void _release(stream_t *stream) noexcept nogil:
    if add64(&stream.refs, -1) != 0:
        return
    if stream.inbound != NULL:
        channel_release(stream.inbound)
    if stream.outbound != NULL:
        channel_release(stream.outbound)
    free(stream)


cdef void stream_let_go(stream_t *stream) noexcept nogil:
    """References come from the hub under its lock, so two are the hub's and the caller's."""
    cdef streams_t *hub = stream.hub
    pthread_mutex_lock(&hub.lock)
    cdef bint unused = (
        load64(&stream.refs) == 2 and load32(&stream.state) == STREAM_INIT
        and _unlink(hub, stream))
    pthread_mutex_unlock(&hub.lock)
    if unused:
        _release(stream)
    _release(stream)


cdef void stream_connect(stream_t *stream) noexcept nogil:
    if cas32(&stream.state, STREAM_INIT, STREAM_CONNECTED):
        _tell_event(stream.hub, <uint32_t>stream.id, EVENT_CONNECTED)


cdef void _shut(stream_t *stream, uint32_t flag) noexcept nogil:
    """The client reads no more, so what was meant for it goes; what it sent can still be read."""
    if flag == CHANNEL_HUP:
        swap32(&stream.state, STREAM_CLOSED)
    elif not cas32(&stream.state, STREAM_INIT, STREAM_ERROR):
        cas32(&stream.state, STREAM_CONNECTED, STREAM_ERROR)
    channel_close(stream.inbound, flag)
    channel_close(stream.outbound, flag)
    channel_drop(stream.outbound, INT64_MAX)


cdef void _end(stream_t *stream) noexcept nogil:
    """The guest reads no more, so what was sent to it goes; what it wrote can still be read."""
    swap32(&stream.state, STREAM_CLOSED)
    channel_close(stream.inbound, CHANNEL_HUP)
    channel_drop(stream.inbound, INT64_MAX)
    channel_close(stream.outbound, CHANNEL_HUP)


cdef void stream_close(stream_t *stream, uint32_t flag) noexcept nogil:
    cdef streams_t *hub = stream.hub
    cdef bint there = False
    if flag == CHANNEL_HUP:
        pthread_mutex_lock(&hub.lock)
        there = _unlink(hub, stream)
        pthread_mutex_unlock(&hub.lock)
    _shut(stream, flag)
    if there:
        _release(stream)


cdef PutResult stream_send(stream_t *stream, const uint8_t *data, uint32_t size) noexcept nogil:
    stream_connect(stream)
    if load32(&stream.readers) == 0:
        channel_drop(stream.inbound, monotonic_ns() - load64(&stream.unread_ns_max))
    return channel_put(stream.inbound, data, size)


cdef void stream_open(stream_t *stream, int32_t direction) noexcept nogil:
    if not direction & DIRECTION_IN:
        return
    if load32(&stream.readers) == 0:
        channel_drop(stream.inbound, monotonic_ns() - load64(&stream.unread_ns_max))
    add32(&stream.readers, 1)


cdef void stream_leave(stream_t *stream, int32_t direction) noexcept nogil:
    """The last reader takes with it what nobody will read."""
    if direction & DIRECTION_IN and add32(&stream.readers, -1) == 0:
        channel_drop(stream.inbound, INT64_MAX)


cdef uint32_t stream_mask(stream_t *stream, int32_t direction) noexcept nogil:
    """OUT promises room for any frame, so that a guest which waits for it never spins."""
    cdef int32_t state = load32(&stream.state)
    cdef uint32_t mask = 0
    if direction & DIRECTION_IN and channel_peek(stream.inbound) >= 0:
        mask |= CHANNEL_IN
    if (direction & DIRECTION_OUT and state == STREAM_CONNECTED
            and channel_ready(stream.outbound, WANT_ROOM, FRAME_BYTES_MAX)):
        mask |= CHANNEL_OUT
    if state == STREAM_ERROR:
        mask |= CHANNEL_ERR
    elif state == STREAM_CLOSED:
        mask |= CHANNEL_HUP
    return mask

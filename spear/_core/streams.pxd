"""User streams of one execution: frames between a guest and clients, by stream id.

The hub is made by whichever side comes first, and counted. Whoever holds a stream of it also holds
the hub: the guest's record holds it until no descriptor is left. Any thread may call any function.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from spear._core.channels cimport PutResult, bell_t, channel_t
from spear._core.sync cimport pthread_mutex_t

cdef enum:
    FRAME_HEADER_BYTES = 32
    FRAME_BYTES_MAX = 256 << 10
    STREAM_BYTES_MAX = 2 << 20     # each way
    STREAM_FRAMES_MAX = STREAM_BYTES_MAX // FRAME_HEADER_BYTES
    STREAMS_MAX = 64               # at once in a session
    STREAM_EVENTS_MAX = 1024
    EVENT_BYTES = 8
    UNREAD_S_MAX = 30
    DIRECTION_IN = 1
    DIRECTION_OUT = 2
    EVENT_CONNECTED = 1
    EVENT_SESSION_CLOSED = 2

cdef enum StreamState:
    STREAM_INIT = 0                # no client has come yet
    STREAM_CONNECTED = 1
    STREAM_CLOSED = 2
    STREAM_ERROR = 3


cdef struct stream_t:
    int64_t refs
    streams_t *hub                 # not counted: who holds a stream holds its hub
    int32_t id
    int32_t state                  # StreamState, atomic
    int32_t readers                # descriptors of the guest that read it, atomic
    int64_t unread_ns_max          # how long frames wait for one, atomic
    channel_t *inbound             # client to guest
    channel_t *outbound            # guest to client


cdef struct streams_t:             # the hub of an execution
    int64_t refs
    bell_t *bell
    channel_t *events              # u32 stream id, u32 kind
    pthread_mutex_t lock           # of all below
    stream_t *items[STREAMS_MAX]   # of the session
    int32_t count
    bint ended                     # the execution is over: streams are closed from the start


# The stream id of the SSF v1 frame that the `size` bytes are; -1 if they are none.
cdef int64_t frame_stream(const uint8_t *data, int64_t size) noexcept nogil

cdef streams_t *streams_new(bell_t *bell) noexcept nogil
cdef void streams_retain(streams_t *hub) noexcept nogil
cdef void streams_release(streams_t *hub) noexcept nogil
# The session's stream of this id, made when it is not there yet, with a reference for the caller.
# NULL: no memory, or STREAMS_MAX are there.
cdef stream_t *streams_get(streams_t *hub, int32_t id) noexcept nogil
# The clients are gone: every stream is closed, the guest is told, new ones may be opened.
cdef void streams_close(streams_t *hub) noexcept nogil
# The guest is gone: nothing more comes in; what it wrote can still be read.
cdef void streams_end(streams_t *hub) noexcept nogil

cdef void stream_retain(stream_t *stream) noexcept nogil
# Gives a reference back; a stream that nobody has used is forgotten.
cdef void stream_let_go(stream_t *stream) noexcept nogil
# A client is there; told to the guest once.
cdef void stream_connect(stream_t *stream) noexcept nogil
# The client is gone (CHANNEL_HUP: its id is free again), or is given up (CHANNEL_ERR).
cdef void stream_close(stream_t *stream, uint32_t flag) noexcept nogil
# One frame from a client; frames that waited too long for a reader make room.
cdef PutResult stream_send(stream_t *stream, const uint8_t *data, uint32_t size) noexcept nogil
# The guest opens a descriptor on it, and closes it.
cdef void stream_open(stream_t *stream, int32_t direction) noexcept nogil
cdef void stream_leave(stream_t *stream, int32_t direction) noexcept nogil
# Readiness of a descriptor, in the bits of the ABI.
cdef uint32_t stream_mask(stream_t *stream, int32_t direction) noexcept nogil

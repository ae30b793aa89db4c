"""Python's ends: a channel to put messages in and get them out, and a client's end of a stream.

Rule: nothing is decided here. A wait is a look, then a note to the event loop's hub or a futex,
then a look again; between a look and its act nothing is awaited. Where no loop runs the waiter
yields itself, and who drives the coroutine calls its `wait`.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint32_t
from libc.stdlib cimport free

from spear._core.channels cimport *
from spear._core.completions cimport Hub, running_loop
from spear._core.guest cimport guest_t
from spear._core.hoststreams cimport guest_streams
from spear._core.states cimport wakes_hold, wakes_release
from spear._core.streams cimport *
from spear._core.sync cimport *

from spear._core.streams import check_frame
from spear.errors import ChannelClosed, InvalidArgument, QueueFull

cdef enum:
    WAIT_SLICE_NS = 50000000       # how long a wait may go without looking for signals
    ITEMS_MAX = 1 << 24
    BYTES_MAX = 1 << 30
    FEW = 4                        # messages that are sooner put than the GIL is given up and taken

cdef tuple _STATES = ("init", "connected", "closed", "error")


class Hubs:
    """The hub of each event loop; those of closed loops are forgotten."""

    def __init__(self):
        self._hubs = {}

    def hub_of(self, loop):
        hub = self._hubs.get(loop)
        if hub is None:
            for old in [old for old in self._hubs if old.is_closed()]:
                del self._hubs[old]
            hub = self._hubs[loop] = Hub(loop)
        return hub


_own_hubs = Hubs()                     # of channels that belong to no run: one eventfd a loop


@cython.final
@cython.no_gc_clear
cdef class Channel:
    """A bounded queue of whole messages; see endpoints.pyi."""

    def __cinit__(self, *, items_max=1024, bytes_max=1 << 20, bint drop_oldest=False):
        if not 1 <= items_max <= ITEMS_MAX or not 1 <= bytes_max <= BYTES_MAX:
            raise InvalidArgument(
                f"items_max={items_max}, bytes_max={bytes_max}: expected 1 to {ITEMS_MAX} items "
                f"and 1 to {BYTES_MAX} bytes")
        self.hubs = _own_hubs
        if not _borrowing:
            self.native = channel_new(items_max, bytes_max, drop_oldest, NULL)
            if self.native == NULL:
                raise MemoryError("no memory for a channel")

    def __dealloc__(self):
        if self.native != NULL:
            channel_release(self.native)

    def put_nowait(self, item not None):
        """Copies `item` in; see endpoints.pyi."""
        cdef const unsigned char[::1] data = item
        cdef const unsigned char *first = &data[0] if data.shape[0] > 0 else NULL
        if data.shape[0] > BYTES_MAX:
            raise _refusal(self.native, PUT_TOO_LARGE, data.shape[0])
        cdef PutResult result
        with nogil:
            result = channel_put(self.native, first, <uint32_t>data.shape[0])
        if result != PUT_DONE:
            raise _refusal(self.native, result, data.shape[0])

    def put_some(self, list items not None):
        """Copies in what there is room for; see endpoints.pyi."""
        cdef item_t *made = NULL
        cdef item_t *left
        cdef item_t **end = &made
        cdef Py_ssize_t count = 0
        cdef PutResult result
        for item in items:
            if not isinstance(item, bytes) or len(<bytes>item) > self.native.bytes_max:
                break
            end[0] = item_new(<const char *><bytes>item, <uint32_t>len(<bytes>item))
            if end[0] == NULL:
                break
            end = &end[0].next
            count += 1
        left = made
        if count <= FEW:
            result = channel_put_items(self.native, &left)
        else:
            with nogil:
                result = channel_put_items(self.native, &left)
        made = left
        while made != NULL:
            made, count = made.next, count - 1
        items_free(left)
        if count == len(items):
            items.clear()                      # without a slice, which is made first
        else:
            del items[:count]
        if result == PUT_CLOSED:
            raise _refusal(self.native, result, 0)
        if result == PUT_DONE and items:
            self.put_nowait(items[0])          # which says why that one is not taken
            del items[0]

    async def put(self, item not None):
        """As put_nowait, but waits for room."""
        while True:
            try:
                return self.put_nowait(item)
            except QueueFull:
                pass
            await _ready(self, WANT_ROOM, len(item))

    def get_nowait(self):
        """The first message; None if there is none now."""
        cdef item_t *item
        with nogil:
            item = channel_take(self.native, INT64_MAX)
        if item == NULL:
            return None
        try:
            return (<char *>item.data)[:item.size]
        finally:
            free(item)

    async def get(self):
        """The first message, waited for; None once closed and empty."""
        while True:
            closed = self.closed       # asked first, so that nothing can come after it
            item = self.get_nowait()
            if item is not None or closed:
                return item
            await _ready(self, WANT_ITEM, 0)

    def fail(self):
        """Marks it as in error; see endpoints.pyi."""
        with nogil:
            channel_close(self.native, CHANNEL_ERR)

    def close(self):
        """Takes no more; what is in it can still be read."""
        with nogil:
            channel_close(self.native, CHANNEL_HUP)

    def drop(self, older_s=0.0):
        """Drops, and counts, the messages that are in it longer than so."""
        cdef int64_t until_ns = monotonic_ns() - _nanoseconds(older_s)
        with nogil:
            channel_drop(self.native, until_ns)

    @property
    def closed(self):
        return channel_look(self.native).flags != 0

    @property
    def failed(self):
        return channel_look(self.native).flags & CHANNEL_ERR != 0

    @property
    def dropped(self):
        return channel_look(self.native).dropped

    @property
    def size_bytes(self):
        return channel_look(self.native).bytes

    def __len__(self):
        return channel_look(self.native).items


@cython.final
cdef class Together:
    """Around puts into the channels of many guests; see endpoints.pyi."""

    def __enter__(self):
        wakes_hold()

    def __exit__(self, kind, error, traceback):
        with nogil:
            wakes_release()


cdef object _refusal(channel_t *channel, PutResult result, Py_ssize_t size):
    if result == PUT_FULL:
        return QueueFull(
            f"{channel.items_max} messages or {channel.bytes_max} bytes wait already, which is the "
            "limit; try again when some were read")
    if result == PUT_CLOSED:
        return ChannelClosed("the other side is gone; nothing more is taken")
    if result == PUT_TOO_LARGE:
        return InvalidArgument(
            f"a message of {size} bytes; at most {channel.bytes_max} are taken")
    return MemoryError(f"no memory for a message of {size} bytes")


cdef int64_t _nanoseconds(seconds) except -1:
    if not 0 <= seconds <= 1e9:
        raise InvalidArgument(f"{seconds} s: expected 0 to 1e9")
    return <int64_t>(seconds * 1e9)


# ---- waiting

@cython.final
cdef class Ready:
    """A wait for a message or for room: awaited or, by the driver of a coroutine, waited for."""

    cdef Channel channel
    cdef Wanted wanted
    cdef int64_t size

    def wait(self, timeout_s=None):
        """True once it is worth a look; False at the time limit."""
        cdef int64_t until_ns = INT64_MAX, slice_ns
        cdef bint ready = False
        if timeout_s is not None:
            until_ns = monotonic_ns() + _nanoseconds(timeout_s)
        while not ready:
            slice_ns = min(until_ns, monotonic_ns() + WAIT_SLICE_NS)
            with nogil:
                ready = channel_wait(self.channel.native, self.wanted, self.size, slice_ns)
            PyErr_CheckSignals()
            if not ready and monotonic_ns() >= until_ns:
                return False
        return True

    def __await__(self):
        loop = running_loop()
        if loop is None:
            yield self
            return
        cdef Hub hub = self.channel.hubs.hub_of(loop)
        future = loop.create_future()
        if channel_watch(self.channel.native, hub.native, self.wanted, self.size):
            return
        hub.expect(self.channel.native, self.channel, future)
        try:
            yield from future
        finally:
            if hub.forget(self.channel.native):
                channel_unwatch(self.channel.native, hub.native)


cdef Ready _ready(Channel channel, Wanted wanted, int64_t size):
    cdef Ready ready = Ready.__new__(Ready)
    ready.channel, ready.wanted, ready.size = channel, wanted, size
    return ready


# ---- streams

cdef bint _borrowing = False           # true while this module makes a face of a native channel


cdef Channel _face(channel_t *native, object hubs):
    global _borrowing
    _borrowing = True
    try:
        made = Channel.__new__(Channel)
    finally:
        _borrowing = False
    cdef Channel channel = <Channel>made
    channel_retain(native)
    channel.native, channel.hubs = native, hubs
    return channel


@cython.final
@cython.no_gc_clear
cdef class UserStream:
    """The client's end of one of a run's streams; see endpoints.pyi."""

    def __cinit__(self):
        if not _borrowing:
            raise TypeError("UserStream objects are made by Run.stream")

    def __dealloc__(self):
        if self.native != NULL:
            stream_let_go(self.native)
        if self.hub != NULL:
            streams_release(self.hub)

    @property
    def id(self):
        return self.native.id

    @property
    def state(self):
        """init, connected, closed or error."""
        return _STATES[load32(&self.native.state)]

    def connect(self):
        """The client is there; the guest is told once."""
        with nogil:
            stream_connect(self.native)

    def send_nowait(self, frame not None):
        """Copies the frame for the guest; see endpoints.pyi."""
        found = check_frame(frame)
        if found != self.native.id:
            raise InvalidArgument(f"a frame of stream {found}, sent on stream {self.native.id}")
        cdef const unsigned char[::1] data = frame
        cdef const unsigned char *first = &data[0]
        cdef PutResult result
        with nogil:
            result = stream_send(self.native, first, <uint32_t>data.shape[0])
        if result != PUT_DONE:
            raise _refusal(self.native.inbound, result, data.shape[0])

    async def send(self, frame not None):
        """As send_nowait, but waits until the guest has made room."""
        while True:
            try:
                return self.send_nowait(frame)
            except QueueFull:
                pass
            await _ready(self.inbound, WANT_ROOM, len(frame))

    def receive_nowait(self):
        """The next frame from the guest; None if there is none now."""
        return self.outbound.get_nowait()

    def receive(self):
        """The next frame from the guest, waited for; None once the stream is over."""
        return self.outbound.get()

    def fail(self):
        """Gives the client up: the guest sees an error."""
        with nogil:
            stream_close(self.native, CHANNEL_ERR)

    def close(self):
        """The client is gone: the guest sees a hang-up."""
        with nogil:
            stream_close(self.native, CHANNEL_HUP)


cdef UserStream user_stream(guest_t *guest, object hubs, object id, object wait_s):
    global _borrowing
    cdef int32_t number = 0
    cdef streams_t *hub
    cdef stream_t *native
    if not isinstance(id, int) or not 0 <= id <= INT32_MAX:
        raise InvalidArgument(f"stream {id!r}: expected an id of 0 to {INT32_MAX}")
    cdef int64_t wait_ns = _nanoseconds(wait_s)
    number = id
    hub = guest_streams(guest)
    if hub == NULL:
        raise MemoryError("no memory for the run's streams")
    native = streams_get(hub, number)
    if native == NULL:
        raise QueueFull(
            f"the run has {STREAMS_MAX} streams, which is the limit; close one first")
    store64(&native.unread_ns_max, wait_ns)
    _borrowing = True
    try:
        made = UserStream.__new__(UserStream)
    finally:
        _borrowing = False
    cdef UserStream stream = <UserStream>made
    streams_retain(hub)
    stream.hub, stream.native = hub, native
    stream.inbound, stream.outbound = _face(native.inbound, hubs), _face(native.outbound, hubs)
    return stream


cdef int user_streams_close(guest_t *guest) except -1:
    cdef streams_t *hub = guest_streams(guest)
    if hub == NULL:
        raise MemoryError("no memory for the run's streams")
    with nogil:
        streams_close(hub)
    return 0

"""Hostcalls of user streams: a guest's side of the frames it exchanges with clients.

Rule: a frame is read and written whole; what is refused changes nothing. A stream lives in the hub
of its execution, a descriptor only holds it. Source: the guest ABI, section 9.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdio cimport snprintf

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.channels cimport *
from spear._core.descriptors cimport *
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.hostfds cimport abi_read, guest_bell, guest_fds
from spear._core.streams cimport *
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

cdef fd_ops _stream_ops
_stream_ops.kind, _stream_ops.poll, _stream_ops.release = FD_USER_STREAM, _poll, _leave
cdef fd_ops _ctl_ops
_ctl_ops.kind, _ctl_ops.poll, _ctl_ops.release = FD_USER_STREAM_CTL, _poll_ctl, _leave_ctl


cdef streams_t *guest_streams(guest_t *guest) noexcept nogil:
    cdef streams_t *hub = <streams_t *>load_ptr(<void **>&guest.streams)
    cdef bell_t *bell
    if hub != NULL:
        return hub
    bell = guest_bell(guest)
    hub = streams_new(bell) if bell != NULL else NULL
    if hub == NULL:
        return NULL
    if not cas_ptr(<void **>&guest.streams, NULL, hub):
        streams_release(hub)       # another thread was quicker
        return <streams_t *>load_ptr(<void **>&guest.streams)
    if add32(&guest.streams_over, 0) != 0:     # the end came, and may not have seen it
        streams_end(hub)
    return hub


# ---- descriptors of streams

cdef uint32_t _poll(const descriptor_t *descriptor) noexcept nogil:
    return stream_mask(<stream_t *>descriptor.object, descriptor.detail)


cdef void _leave(descriptor_t *descriptor) noexcept nogil:
    cdef stream_t *stream = <stream_t *>descriptor.object
    stream_leave(stream, descriptor.detail)
    stream_let_go(stream)


cdef uint32_t _poll_ctl(const descriptor_t *descriptor) noexcept nogil:
    return EPOLL_IN if channel_peek((<streams_t *>descriptor.object).events) >= 0 else 0


cdef void _leave_ctl(descriptor_t *descriptor) noexcept nogil:
    streams_release(<streams_t *>descriptor.object)


cdef int32_t user_stream_open(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t id = values[0].i32, direction = values[1].i32, number
    cdef streams_t *hub
    cdef stream_t *stream
    if id < 0 or not DIRECTION_IN <= direction <= DIRECTION_IN | DIRECTION_OUT:
        return -EINVAL
    if guest.executor == NULL:
        return -ENOTCONN           # a warm instance is no execution
    hub = guest_streams(guest)
    if hub == NULL or guest_fds(guest) == NULL:
        return -ENOMEM
    stream = streams_get(hub, id)
    if stream == NULL:
        return -ENOMEM
    number = fd_open(
        <fd_table *>guest.fds, &_stream_ops, stream, <uint32_t>id, <uint8_t>direction)
    if number < 0:
        stream_let_go(stream)
        return number
    stream_open(stream, direction)
    return number


cdef int32_t user_stream_read(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(
        <fd_table *>guest.fds, values[0].i32, FD_USER_STREAM)
    if descriptor == NULL:
        return -EBADF
    if not descriptor.detail & DIRECTION_IN:
        return -EINVAL
    return abi_read(
        guest, caller, (<stream_t *>descriptor.object).inbound, values[1].i32,
        values[2].i32)


cdef int32_t _write(stream_t *stream, const uint8_t *frame, int32_t size) noexcept nogil:
    cdef int32_t state = load32(&stream.state)
    if state == STREAM_INIT:
        return -ENOTCONN
    if state != STREAM_CONNECTED:
        return -EPIPE
    if size > FRAME_BYTES_MAX:
        return -EINVAL
    cdef PutResult result = channel_put(stream.outbound, frame, <uint32_t>size)
    if result == PUT_DONE:
        return 0
    if result == PUT_CLOSED:
        return -EPIPE
    return -ENOMEM if result == PUT_NO_MEMORY else -EAGAIN


cdef int32_t user_stream_write(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(
        <fd_table *>guest.fds, values[0].i32, FD_USER_STREAM)
    cdef int32_t size = values[2].i32
    cdef uint8_t *frame
    cdef stream_t *stream
    if descriptor == NULL:
        return -EBADF
    frame = abi_span(guest, caller, values[1].i32, size)
    if frame == NULL:
        return -EFAULT
    stream = <stream_t *>descriptor.object
    if frame_stream(frame, size) != stream.id or not descriptor.detail & DIRECTION_OUT:
        return -EINVAL
    return _write(stream, frame, size)


cdef int32_t user_stream_close(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return fd_close(
        <fd_table *>guest.fds, values[0].i32, 1 << FD_USER_STREAM | 1 << FD_USER_STREAM_CTL)


cdef int32_t user_stream_ctl_open(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef streams_t *hub
    cdef int32_t number
    if guest.executor == NULL:
        return -ENOTCONN
    hub = guest_streams(guest)
    if hub == NULL or guest_fds(guest) == NULL:
        return -ENOMEM
    streams_retain(hub)
    number = fd_open(<fd_table *>guest.fds, &_ctl_ops, hub, 0, 0)
    if number < 0:
        streams_release(hub)
    return number


cdef int32_t user_stream_ctl_read(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(
        <fd_table *>guest.fds, values[0].i32, FD_USER_STREAM_CTL)
    if descriptor == NULL:
        return -EBADF
    return abi_read(
        guest, caller, (<streams_t *>descriptor.object).events, values[1].i32, values[2].i32)


# ---- GET_METRICS

cdef const char *_direction_name(uint8_t direction) noexcept nogil:
    if direction == DIRECTION_IN:
        return "In"
    return "Out" if direction == DIRECTION_OUT else "Bidi"


cdef const char *_state_name(int32_t state) noexcept nogil:
    if state == STREAM_INIT:
        return "Init"
    if state == STREAM_CONNECTED:
        return "Connected"
    return "Closed" if state == STREAM_CLOSED else "Error"


cdef int32_t stream_metrics(guest_t *guest, int32_t number, char *out) noexcept nogil:
    """A closed descriptor knows its stream's id and direction, and holds nothing."""
    cdef fd_mark *mark = fd_marked(<fd_table *>guest.fds, number)
    cdef descriptor_t *descriptor = fd_find(<fd_table *>guest.fds, number, FD_USER_STREAM)
    cdef channel_state inbound, outbound
    cdef stream_t *stream
    cdef int32_t state = STREAM_CLOSED
    inbound.items = inbound.bytes = outbound.items = outbound.bytes = 0
    if descriptor != NULL:
        stream = <stream_t *>descriptor.object
        state = load32(&stream.state)
        inbound, outbound = channel_look(stream.inbound), channel_look(stream.outbound)
    return snprintf(
        out, METRICS_BYTES_MAX,
        '{"execution_id":"%s","stream_id":%u,"direction":"%s","conn_state":"%s",'
        '"inbound_len":%lld,"inbound_bytes":%lld,"max_inbound_bytes":%d,'
        '"outbound_len":%lld,"outbound_bytes":%lld,"max_outbound_bytes":%d,'
        '"max_frame_bytes":%d}',
        guest.execution_id, mark.note, _direction_name(mark.detail), _state_name(state),
        <long long>inbound.items, <long long>inbound.bytes, <int>STREAM_BYTES_MAX,
        <long long>outbound.items, <long long>outbound.bytes, <int>STREAM_BYTES_MAX,
        <int>FRAME_BYTES_MAX)


cdef int32_t stream_ctl_metrics(guest_t *guest, int32_t number, char *out) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(
        <fd_table *>guest.fds, number, FD_USER_STREAM_CTL)
    cdef int64_t pending = 0
    if descriptor != NULL:
        pending = channel_look((<streams_t *>descriptor.object).events).items
    return snprintf(
        out, METRICS_BYTES_MAX, '{"execution_id":"%s","pending_len":%lld,"max_pending":%d}',
        guest.execution_id, <long long>pending, <int>STREAM_EVENTS_MAX)

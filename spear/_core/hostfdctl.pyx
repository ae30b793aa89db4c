"""The hostcall spear_fd_ctl: flags, kind, state and metrics of any descriptor, closed or not.

Rule: changes nothing but flags, and those change nothing. Source: the guest ABI, section 11.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.descriptors cimport *
from spear._core.engineapi cimport *
from spear._core.fdjson cimport *
from spear._core.guest cimport *
from spear._core.hosthandles cimport handle_give, handle_readable
from spear._core.hoststreams cimport METRICS_BYTES_MAX, stream_ctl_metrics, stream_metrics
from spear._core.nativehandles cimport handle_finished, handle_ops, handle_t

wasmtime_bind(engineapi.functions())

cdef enum:
    SET_FLAGS = 1
    GET_FLAGS = 2
    GET_KIND = 3
    GET_STATUS = 4
    GET_METRICS = 5
    FD_ANY = -1                # of all kinds


cdef int32_t _set_flags(
    guest_t *guest, wasmtime_caller_t *caller, fd_mark *mark, int32_t at, int32_t len_at
) noexcept nogil:
    cdef uint8_t *length = abi_span(guest, caller, len_at, 4)
    cdef uint8_t *text
    cdef uint32_t size
    if length == NULL:
        return -EFAULT
    memcpy(&size, length, 4)
    if size > FLAGS_BYTES_MAX:
        return -EINVAL
    text = abi_span(guest, caller, at, <int32_t>size)
    if text == NULL:
        return -EFAULT
    cdef flag_change change = flags_read(text, size)
    if not change.valid:
        return -EINVAL
    if change.set_nonblock:
        mark.flags |= FD_NONBLOCK
    if change.clear_nonblock:
        mark.flags &= <uint8_t>~FD_NONBLOCK
    return 0


cdef int32_t _metrics(
    guest_t *guest, int32_t number, const fd_mark *mark, char *out
) noexcept nogil:
    if mark.kind == FD_USER_STREAM:
        return stream_metrics(guest, number, out)
    if mark.kind == FD_USER_STREAM_CTL:
        return stream_ctl_metrics(guest, number, out)
    memcpy(out, b"{}", 2)
    return 2


cdef int32_t _handle_metrics(
    guest_t *guest, wasmtime_caller_t *caller, int32_t number, int32_t at, int32_t len_at
) noexcept nogil:
    """Of one that is not finished, or no longer kept, there is nothing to say."""
    cdef handle_t *handle = handle_readable(guest, number, FD_ANY)
    if handle != NULL and handle_finished(handle):
        return handle_give(guest, caller, handle, True, at, len_at)
    return abi_give(guest, caller, b"{}", 2, at, len_at)


cdef int32_t spear_fd_ctl(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t number = values[0].i32, cmd = values[1].i32, size
    cdef char out[METRICS_BYTES_MAX]
    cdef fd_table *table = <fd_table *>guest.fds
    cdef fd_mark *mark = fd_marked(table, number)
    if mark == NULL:
        return -EBADF
    if cmd == SET_FLAGS:
        return _set_flags(guest, caller, mark, values[2].i32, values[3].i32)
    if cmd == GET_FLAGS:
        size = flags_write(out, mark.flags)
    elif cmd == GET_KIND:
        size = kind_write(out, mark.kind)
    elif cmd == GET_STATUS:
        size = status_write(out, mark.kind, mark.flags, fd_poll(table, number))
    elif cmd == GET_METRICS and handle_ops(mark.kind) != NULL:
        return _handle_metrics(guest, caller, number, values[2].i32, values[3].i32)
    elif cmd == GET_METRICS:
        size = _metrics(guest, number, mark, out)
    else:
        return -EINVAL
    return abi_give(guest, caller, out, <uint32_t>size, values[2].i32, values[3].i32)

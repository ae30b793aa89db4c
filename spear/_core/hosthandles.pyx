"""How a guest comes to the handles of Python: a number in its table, a look, what it may read.

Rule: all here runs on the thread that has the guest. Bodies behind closed descriptors can still be
read, as the ABI says, but not without end: the last KEPT_MAX of them, and of those as many as lie
within KEPT_BYTES_MAX; the very last one always. Source: the guest ABI, sections 1, 2 and 11.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.channels cimport bell_t
from spear._core.descriptors cimport *
from spear._core.drafts cimport drafts_new, room_new, room_t
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.hub cimport hub_t
from spear._core.hostfds cimport guest_bell, guest_fds
from spear._core.keptbodies cimport *
from spear._core.nativehandles cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    BODIES_BYTES_MAX = 256 << 20   # behind the open descriptors of one guest, when it opens one
    SMALL_BYTES = 64 << 10         # more than that, or not known yet, and they are counted


cdef int64_t _body_bytes(handle_t *handle) noexcept nogil:
    """What is not finished counts as nothing: it may still be of any size."""
    return handle.body_size if handle_finished(handle) else 0


cdef bint _has_room(const fd_table *table, handle_t *handle) noexcept nogil:
    """Small bodies are bounded by how many descriptors there may be."""
    cdef int64_t total = _body_bytes(handle)
    cdef uint32_t at
    if total <= SMALL_BYTES and (handle_finished(handle) or handle.kind == FD_CHAT_SESSION):
        return True
    for at in range(table.open_count):
        if handle_ops(table.open[at].ops.kind) != NULL:
            total += _body_bytes(<handle_t *>table.open[at].object)
    return total <= BODIES_BYTES_MAX


cdef int32_t handle_open(guest_t *guest, handle_t *handle) noexcept nogil:
    cdef fd_table *table = guest_fds(guest)
    cdef bell_t *bell = guest_bell(guest)
    cdef int32_t number = -ENOMEM
    if table != NULL and bell != NULL and _has_room(table, handle):
        handle_bind(handle, bell)
        number = fd_open(table, handle_ops(handle.kind), handle, 0, 0)
    if number < 0:
        handle_close(handle)
    return number


cdef room_t *_room(guest_t *guest) noexcept nogil:
    cdef kept_t *kept
    if guest.kept == NULL:
        guest.kept = kept_new()
    kept = <kept_t *>guest.kept
    if kept != NULL and kept.room == NULL:
        kept.room = room_new()
    return NULL if kept == NULL else kept.room


cdef int32_t session_open(guest_t *guest, hub_t *hub) noexcept nogil:
    cdef room_t *room = _room(guest)
    cdef handle_t *handle = handle_new(FD_CHAT_SESSION, NULL, NULL) if room != NULL else NULL
    if handle == NULL:
        return -ENOMEM
    handle.drafts = drafts_new(room)
    if handle.drafts == NULL or not handle_promise(handle, hub):
        handle_release(handle)
        return -ENOMEM
    handle_release(handle)         # the promise has one of its own
    return handle_open(guest, handle)


cdef handle_t *handle_of(guest_t *guest, int32_t number, uint32_t kinds) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(<fd_table *>guest.fds, number, 0)
    if descriptor == NULL or not kinds >> descriptor.ops.kind & 1:
        return NULL
    return <handle_t *>descriptor.object


cdef handle_t *handle_readable(guest_t *guest, int32_t number, uint32_t kinds) noexcept nogil:
    cdef handle_t *handle = handle_of(guest, number, kinds)
    if handle == NULL and guest.kept != NULL:
        handle = kept_find(<kept_t *>guest.kept, number)
        if handle != NULL and not kinds >> handle.kind & 1:
            return NULL
    return handle


cdef int32_t handle_leave(guest_t *guest, int32_t number, uint32_t kinds) noexcept nogil:
    cdef handle_t *handle = handle_of(guest, number, kinds)
    if handle == NULL or not handle_finished(handle):
        return fd_close(<fd_table *>guest.fds, number, kinds)
    if guest.kept == NULL:
        guest.kept = kept_new()
    if guest.kept != NULL:         # else there is no memory, and nothing is kept
        kept_add(<kept_t *>guest.kept, number, handle)
    return fd_close(<fd_table *>guest.fds, number, kinds)


cdef int32_t handle_give(
    guest_t *guest, wasmtime_caller_t *caller, handle_t *handle, bint about, int32_t out_at,
    int32_t len_at
) noexcept nogil:
    if not handle_finished(handle):
        return -EAGAIN
    if about:
        guest_charge(guest, handle.about_size)
        return abi_give(guest, caller, handle.about, handle.about_size, out_at, len_at)
    if handle.status < 0:
        return handle.status
    guest_charge(guest, handle.body_size)
    return abi_give(guest, caller, handle.body, handle.body_size, out_at, len_at)

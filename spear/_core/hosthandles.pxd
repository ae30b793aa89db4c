"""Descriptors that Python answers for, as the hostcalls of guests see them; see hosthandles.pyx."""

from libc.stdint cimport int32_t, uint32_t

from spear._core.engineapi cimport *
from spear._core.guest cimport guest_t
from spear._core.hub cimport hub_t
from spear._core.nativehandles cimport handle_t

# A new session that takes drafts: its number, or -ENOMEM. The guest's own thread only.
cdef int32_t session_open(guest_t *guest, hub_t *hub) noexcept nogil
# As post.pxd's open_t.
cdef int32_t handle_open(guest_t *guest, handle_t *handle) noexcept nogil
# The handle behind an open descriptor, or behind a closed one that is still kept; NULL: neither, or
# of none of these kinds (bit n: kind n).
cdef handle_t *handle_of(guest_t *guest, int32_t number, uint32_t kinds) noexcept nogil
cdef handle_t *handle_readable(guest_t *guest, int32_t number, uint32_t kinds) noexcept nogil
# fd_close, after which the body that it had may still be read, within the bounds.
cdef int32_t handle_leave(guest_t *guest, int32_t number, uint32_t kinds) noexcept nogil
# Its body or, with `about`, the document about it, into the guest's memory ("len in/out"): the
# size, -EAGAIN while it is not finished, and what abi_give says. A body of one that failed is its
# status.
cdef int32_t handle_give(
    guest_t *guest, wasmtime_caller_t *caller, handle_t *handle, bint about, int32_t out_at,
    int32_t len_at) noexcept nogil

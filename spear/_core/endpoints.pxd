"""The contract of Python's ends of channels and streams; see endpoints.pyx."""

from spear._core.channels cimport channel_t
from spear._core.guest cimport guest_t
from spear._core.streams cimport stream_t, streams_t


cdef class Channel:
    cdef channel_t *native
    cdef object hubs               # has `hub_of(loop)`
    cdef bint bound                # a handle's, for whose guest it rings
    cdef object __weakref__


cdef class UserStream:
    cdef streams_t *hub
    cdef stream_t *native
    cdef Channel outbound
    cdef Channel inbound
    cdef object __weakref__


# The client's end of a guest's stream; `hubs` gives the hub of an event loop.
cdef UserStream user_stream(guest_t *guest, object hubs, object id, object wait_s)
# The clients of all its streams are gone.
cdef int user_streams_close(guest_t *guest) except -1

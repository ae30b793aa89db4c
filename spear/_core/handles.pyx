"""Handles: how a handler gives a guest a descriptor that stands for an object of Python's.

Rule: the object lives in Python and is let go there, on the loop that serves; the guest has a
number. What is finished stays so. Nothing here waits.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from spear._core.descriptors cimport (
    FD_CHAT_RESPONSE, FD_CHAT_SESSION, FD_CHAT_STREAM, FD_TASK_CALL)
from spear._core.drafts cimport drafts_take, room_of
from spear._core.endpoints cimport Channel
from spear._core.nativehandles cimport *

from spear.errors import InvalidArgument

CHAT_SESSION, CHAT_RESPONSE = <int>FD_CHAT_SESSION, <int>FD_CHAT_RESPONSE
CHAT_STREAM, TASK_CALL = <int>FD_CHAT_STREAM, <int>FD_TASK_CALL
BODY_BYTES_MAX = 64 << 20
ABOUT_BYTES_MAX = 1 << 20

cdef object _ADOPTED = object()        # what stands behind it is there already


cdef class Handle:
    """What stands behind a descriptor; see handles.pyi."""

    def __cinit__(self, kind, value=None, *, Channel channel=None, closed=None):
        if kind is _ADOPTED:
            return
        if not isinstance(kind, int) or not 0 < kind < 256 or handle_ops(<uint8_t>kind) == NULL:
            raise InvalidArgument(f"{kind!r} is no kind of handles")
        if (channel is not None) != (kind == FD_CHAT_STREAM):
            raise InvalidArgument("a stream has a channel, and no other kind of handles has")
        if channel is not None and channel.bound:
            raise InvalidArgument("the channel is another handle's: make one for each")
        self.native = handle_new(
            <uint8_t>kind, channel.native if channel is not None else NULL, <void *>self)
        if self.native == NULL:
            raise MemoryError("no memory for a handle")
        self.value, self.channel, self.on_close = value, channel, closed
        if channel is not None:
            channel.bound = True

    def __dealloc__(self):
        if self.native != NULL:
            if self.native.face == <void *>self:
                self.native.face = NULL
            handle_release(self.native)

    def __repr__(self):
        return f"<Handle of kind {self.kind}, {'finished' if self.finished else 'not finished'}>"

    @property
    def kind(self):
        return self.native.kind

    @property
    def finished(self):
        return bool(handle_finished(self.native))

    def finish(self, int32_t status, bytes body not None, bytes about not None=b"{}"):
        """The result; see handles.pyi."""
        if status > 0:
            raise InvalidArgument(f"status {status}: expected 0 or a negated number of the ABI")
        if len(body) > BODY_BYTES_MAX or len(about) > ABOUT_BYTES_MAX:
            raise InvalidArgument(
                f"a result of {len(body)} bytes with {len(about)} about it; the limits are "
                f"{BODY_BYTES_MAX} and {ABOUT_BYTES_MAX}")
        cdef uint8_t *body_copy = _copy(body)
        cdef uint8_t *about_copy = _copy(about)
        cdef uint32_t body_size = len(body), about_size = len(about)
        cdef bint first
        if body_copy == NULL or about_copy == NULL:
            free(body_copy)
            free(about_copy)
            raise MemoryError(f"no memory for a result of {body_size + about_size} bytes")
        with nogil:
            first = handle_finish(
                self.native, status, body_copy, body_size, about_copy, about_size)
        return bool(first)

    @property
    def room(self):
        return None if self.native.drafts == NULL else room_of(self.native.drafts.room)

    def drafts(self, int32_t left):
        """What came since; see handles.pyi."""
        return [] if self.native.drafts == NULL else drafts_take(self.native.drafts, left)

    def when_closed(self, callback):
        self.on_close = callback

    cdef int give(self) except -1:
        if self.given:
            raise ValueError("the handler gave a Handle that was given before: make one for each")
        self.given = True
        return 0

    cdef end(self, failed):
        on_close, self.on_close = self.on_close, None
        if on_close is None:
            return
        try:
            on_close(self)
        except Exception as error:
            failed(error)


cdef Handle handle_face(handle_t *native, bint *told):
    cdef Handle handle = Handle.__new__(Handle, _ADOPTED)
    handle.native, handle.given = native, True
    told[0] = handle_adopt(native, <void *>handle)
    return handle


class Drafted:
    """See handles.pyi."""

    def __call__(self, call):
        raise RuntimeError("a session that takes drafts is opened by its guest's own thread")


cdef uint8_t *_copy(bytes data) noexcept:
    cdef const uint8_t *first = data
    cdef size_t size = len(data)
    cdef uint8_t *copy = <uint8_t *>malloc(size + 1)
    if copy != NULL:
        memcpy(copy, first, size)
    return copy


def live_count():
    return handles_live()

"""The contract of handles for the door; see handles.pyx."""

from spear._core.endpoints cimport Channel
from spear._core.nativehandles cimport handle_t


cdef class Handle:
    cdef handle_t *native
    cdef public object value
    cdef Channel channel
    cdef object on_close           # callback; None: there is none, or it was called
    cdef bint given                # a handler gave it as its answer

    # It is a handler's answer now, which it can be once.
    cdef int give(self) except -1
    # The guest has closed it or is gone; `failed(error)` is told of a callback that fails.
    cdef end(self, failed)


# Of a session that its guest opened natively; whether its closing will be told.
cdef Handle handle_face(handle_t *native, bint *told)

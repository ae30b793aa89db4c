"""Keeps the handles that guests have, for as long as they have them, and lets them go.

Rule: on the loop that serves, or where none is left. A handle is kept from its answer on until its
note comes; a guest's notes come in the order of its deeds, so what a call names is kept while that
call begins. Whoever leaves is told of once. What is finished, and of which nobody is told, is the
guest's alone: a note would wake the loop for nothing.
"""

from spear._core.abibits cimport EIO
from spear._core.descriptors cimport FD_CHAT_SESSION
from spear._core.handles cimport Handle, handle_face
from spear._core.nativehandles cimport *
from spear._core.post cimport TURN_GONE, request_t
from spear._core.sync cimport load32


cdef class OpenHandles:
    """See openhandles.pxd."""

    def __cinit__(self):
        self.kept = set()

    cdef bint promise(self, request_t *request, Handle handle) except -1:
        cdef bint gone = load32(&request.turn) == TURN_GONE
        # Nobody is to be told of its close, or to be given it back.
        cdef bint alone = (
            handle.on_close is None and handle.value is None and handle_finished(handle.native))
        if not alone:
            self.kept.add(handle)          # first: it may find no memory
        if gone or not handle_promise(handle.native, self.hub):
            self.kept.discard(handle)
            self.let_go(handle)
            return gone
        if alone:
            handle.native.face = NULL
        request.opening = handle.native
        return True

    cdef adopt(self, handle_t *native):
        cdef bint told = False
        cdef Handle handle = handle_face(native, &told)
        if told:                           # else its guest has ended
            self.kept.add(handle)
        return handle

    cdef leave(self, handle_t *native):
        cdef Handle handle = <Handle>native.face
        self.kept.discard(handle)
        handle_release(native)
        self.let_go(handle)

    cdef let_go(self, Handle handle):
        handle.end(self.failed)

    cdef fail(self):
        for handle in list(self.kept):
            if handle.kind != FD_CHAT_SESSION:
                handle.finish(-EIO, b"")

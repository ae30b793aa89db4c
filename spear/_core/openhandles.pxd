"""The handles that guests of one executor have; see openhandles.pyx."""

from spear._core.handles cimport Handle
from spear._core.hub cimport hub_t
from spear._core.nativehandles cimport handle_t
from spear._core.post cimport request_t


cdef class OpenHandles:
    cdef hub_t *hub                # the door's, where closings are told
    cdef set kept                  # that guests have, or are about to get
    cdef object failed             # told of a callback's error

    # It is the request's answer, unless its guest is gone; False: no memory.
    cdef bint promise(self, request_t *request, Handle handle) except -1
    # The face of a session that a guest opened natively, which a call names now.
    cdef adopt(self, handle_t *native)
    # What a note says: its guest closed it, or ended. Takes the note's reference.
    cdef leave(self, handle_t *native)
    # No guest has it.
    cdef let_go(self, Handle handle)
    # Nobody is left who would finish them.
    cdef fail(self)

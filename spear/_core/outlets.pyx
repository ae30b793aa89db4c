"""Messages on their way into one guest's channel: those of one turn of a loop go together.

Rule: in order, each once. Native code fills it only as far as nobody has to wait; when all goes,
and how what finds no room follows, is said in Python. On one event loop.
"""

from spear._core.endpoints cimport Channel

from spear.errors import ChannelClosed


cdef class Outlet:
    """See outlets.pyi."""

    def __init__(self, Channel channel not None, list due not None, begin, Py_ssize_t held_max):
        self.channel, self.held = channel, []
        self.due, self.begin, self.held_max = due, begin, held_max

    cdef Py_ssize_t room(self):
        return 0 if self.moving is not None else self.held_max - len(self.held)

    cdef int hold_natively(self, bytes message) except -1:
        cdef bint first = len(self.held) == 0
        self.held.append(message)
        if not first or self.moving is not None:
            return 0
        if self.due:
            self.due.append(self)
        else:
            self.begin(self)
        return 0

    def hold(self, bytes message not None):
        self.hold_natively(message)

    def go(self):
        if self.moving is not None:
            return
        try:
            self.channel.put_some(self.held)
        except ChannelClosed:              # by its reader
            self.held.clear()
        if self.held:
            self.moving = self.follow()

    def follow(self):
        raise NotImplementedError("an outlet's maker says how what found no room follows")

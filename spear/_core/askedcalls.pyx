"""The unary calls that a client's connection has under way, from their requests to their answers.

Rule: the plain case or nothing, as in exchange.pyx. A call that must wait for its place or has a
deadline is the channel's `ask`; a frame that is no good answer to a call is the channel's, too.
"""

from asyncio import CancelledError

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from spear._core.exchange cimport HEADER_BYTES, Exchange

cdef extern from "Python.h":
    object new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size)
    bytes ascii_of "PyUnicode_AsASCIIString" (object text)


cdef class AskedCalls:
    """Of one channel, whose `ask(path, request, deadline_ms)` is a call of any kind, `give_up(id)`
    ends one, and `flush()` sends what the exchange has to say."""

    def __init__(self, Exchange exchange not None, loop, waiting, channel):
        self.exchange, self.loop, self.channel = exchange, loop, channel
        self.waiting = waiting
        self.answers = {}

    async def call(self, str path not None, bytes request not None, deadline_ms=0):
        """The answer of the method `path` to a message; raises as the channel's `ask`."""
        if deadline_ms or len(self.exchange.own_requests) >= self.window or len(self.waiting):
            return await self.channel.ask(path, request, deadline_ms)
        request_id = self.exchange.call(ascii_of(path), 0, request)
        self.flush_soon()
        answer = self.loop.create_future()
        self.answers[request_id] = answer
        try:
            return await answer
        except CancelledError:
            self.channel.give_up(request_id)
            raise

    cdef int flush_soon(self) except -1:
        """At once where nothing else is under way that could speak in this turn."""
        if not self.exchange.flush_due:
            if len(self.exchange.own_requests) == 1:
                self.channel.flush()
            else:
                self.exchange.flush_due = True
                self.loop.call_soon(self.channel.flush)
        return 0

    def take(self, list frames not None, Py_ssize_t index):
        """Gives the answers in the frames from this one on; the index of the first that is no good
        answer to a call."""
        cdef bytes frame
        while index < len(frames):
            frame = frames[index]
            request_id = self.exchange.take_answer(frame, self.answers)
            if request_id is None:
                break
            answer = self.answers.pop(request_id)
            if not answer.done():
                answer.set_result(new_bytes(
                    PyBytes_AS_STRING(frame) + HEADER_BYTES,
                    PyBytes_GET_SIZE(frame) - HEADER_BYTES))
            index += 1
        return index

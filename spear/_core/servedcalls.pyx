"""The calls that a server's connection has under way, and prompt ones from request to answer.

Rule: a prompt call costs no task: its handler's coroutine is gone on with here when what it awaits
is there. It is answered once, however it ends. A frame that is no plain call of a prompt method is
left to the connection, as are errors and what ends with the connection.

What a coroutine awaits here are futures of the loop, or nothing (`sleep(0)`); nothing in it may ask
which task it is in, as timeouts do. A handler that has done its work, but for what is told to all
who wait, gives the list of those who wait: the call stands in it as a future would.
"""

from asyncio import CancelledError, shield

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from spear._core.exchange cimport Exchange, call_t
from spear._core.protofields cimport Fields

cdef extern from "Python.h":
    object new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size)
    bint is_coroutine "PyCoro_CheckExact" (object found)
    int PYGEN_NEXT
    int PyIter_Send(object steps, object value, PyObject **result) except -1


cdef class Route:
    """How the calls of one method are done. `read`: bytes to the request; `handler`: the request to
    an awaitable response, or to a list of futures that are given it soon; `write`: the response to
    bytes. All may raise, to be answered so.

    `reads` and `writes` do the same for plain records, a response only up to `plain_bytes_max`.
    """

    def __init__(
        self, str path not None, handler, read, write, Fields reads=None, Fields writes=None,
        Py_ssize_t plain_bytes_max=0,
    ):
        self.path, self.key = path, path.encode("ascii")
        self.handler, self.read, self.write = handler, read, write
        self.reads, self.writes, self.plain_bytes_max = reads, writes, plain_bytes_max

    cdef object request(self, bytes frame, Py_ssize_t at):
        """From the bytes from `at` on."""
        cdef const char *data = PyBytes_AS_STRING(frame)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
        if self.reads is not None:
            found = self.reads.read(<const uint8_t *>data + at, <const uint8_t *>data + size)
            if found is not None:
                return found
        return self.read(new_bytes(data + at, size - at))

    cdef bytes response(self, object value):
        if self.writes is not None:
            data = self.writes.encode(value)
            if data is not None and PyBytes_GET_SIZE(data) <= self.plain_bytes_max:
                return data
        data = self.write(value)
        if type(data) is not bytes:
            raise TypeError(f"{self.path} wrote {type(data).__name__}, not bytes")
        return data


cdef class ServedCalls:
    """Of one connection, which gives `answer_failed(path, request_id, error, expired_ms)`,
    `eased()`, for when a call has ended while `full` or `draining`, and `flush()`.

    `routes`: of the prompt methods, by path. `lasting`: calls of all connections that outlast the
    turn they came in. Beyond `window` calls or `size_max` bytes of requests it is full. `turn` is
    told of each part of a read (see serving.Turn), if there is one.
    """

    def __init__(
        self, Exchange exchange not None, loop, connection, routes, set lasting not None,
        Py_ssize_t window, Py_ssize_t size_max, turn=None,
    ):
        self.exchange, self.loop, self.connection, self.turn = exchange, loop, connection, turn
        self.routes = {(<Route?>route).key: route for route in routes.values()}
        self.lasting, self.window, self.size_max = lasting, window, size_max
        self.under_way, self.fresh = {}, []

    cpdef add(self, request_id, call, Py_ssize_t size):
        """A call of any kind is under way."""
        self.under_way[request_id] = call
        self.size += size
        if len(self.under_way) >= self.window or self.size > self.size_max:
            self.full = True

    cpdef remove(self, request_id, call, Py_ssize_t size):
        self.lasting.discard(call)
        del self.under_way[request_id]
        self.size -= size

    def take_part(self, list frames not None):
        """All of these frames, here or by the connection's `take_from(frames, index)`; what is said
        meanwhile leaves together at the end."""
        cdef Py_ssize_t index
        self.exchange.flush_due = True
        try:
            if self.turn is not None:
                self.turn.gather()
            try:
                index = self.take(frames, 0)
                if index < len(frames):
                    self.connection.take_from(frames, index)
            finally:
                if self.turn is not None:
                    self.turn.settle()
            self.go_on()
        finally:
            self.exchange.flush_due = False
        if self.exchange.outgoing:
            self.connection.flush()

    cpdef Py_ssize_t take(self, list frames, Py_ssize_t index) except -1:
        """Begins the calls in the frames from this one on; the index of the first that is left to
        the connection: it is something else, or must wait."""
        cdef call_t call
        cdef bytes frame
        cdef Route route
        while index < len(frames) and not self.full and not self.draining:
            frame = frames[index]
            if not self.exchange.plain_call(frame, &call):
                break
            route = self.route_of(&call)
            if route is None:
                break
            self.begin(route, frame, &call)
            index += 1
        return index

    cdef Route route_of(self, call_t *call):
        cdef Route last = self.last
        if last is None or PyBytes_GET_SIZE(last.key) != call.path_size or memcmp(
                PyBytes_AS_STRING(last.key), call.path, <size_t>call.path_size):
            last = self.routes.get(new_bytes(call.path, call.path_size))
            if last is not None:
                self.last = last
        return last

    cdef int begin(self, Route route, bytes frame, call_t *call) except -1:
        cdef PromptCall made = PromptCall.__new__(PromptCall)
        made.calls, made.route, made.deadline_ms = self, route, call.deadline_ms
        made.size = PyBytes_GET_SIZE(frame) - call.payload_at
        made.request_id = self.exchange.take_call(call)
        try:
            given = route.handler(route.request(frame, call.payload_at))
            made.told = type(given) is list
            if not made.told:
                made.steps = steps_of(given)
        except (Exception, CancelledError) as error:
            self.connection.answer_failed(route.path, made.request_id, error, 0)
            return 0
        self.add(made.request_id, made, made.size)
        if made.told:
            (<list>given).append(made)
            self.fresh.append(made)
        elif not made.step():
            self.fresh.append(made)
        return 0

    cpdef go_on(self):
        """The turn is over: what was begun in it goes on by itself, unless it has ended."""
        cdef PromptCall call
        fresh, self.fresh = self.fresh, []
        for call in fresh:
            if not call.go_on():
                self.lasting.add(call)

    cdef int answered(self) except -1:
        """The answer of a call leaves with others of this turn; at once if nothing else is under
        way that could speak in it."""
        if self.exchange.open:
            if not self.exchange.flush_due:
                if not self.under_way:
                    self.connection.flush()
                else:
                    self.exchange.flush_due = True
                    self.loop.call_soon(self.connection.flush)
            if self.full or self.draining:
                self.connection.eased()
        return 0


cdef object steps_of(object awaitable):
    return awaitable if is_coroutine(awaitable) else type(awaitable).__await__(awaitable)


cdef class PromptCall:
    """A call under way; made by ServedCalls. As a callback it goes on."""

    def cancel(self):
        """What it awaits is cancelled; it hears of that where it waits, or in its next step. One
        that is told is answered so now."""
        if self.told:
            if not self.over:
                self.end(None, CancelledError())
        elif self.awaited is None or not self.awaited.cancel():
            self.doomed = True

    def ended(self):
        """A future that is done once it was answered, or would have been; one for each who asks,
        so that who gives up waiting takes nobody else's."""
        if self.waiter is None:
            self.waiter = self.calls.loop.create_future()
        return shield(self.waiter)

    def __call__(self, awaited=None):
        if not self.step():
            self.wait()

    # As the futures are that are told with it.

    def done(self):
        return self.over

    def set_result(self, value):
        if self.over:
            return
        try:
            data = self.route.response(value)
        except (Exception, CancelledError) as error:
            self.end(None, error)
        else:
            self.end(data, None)

    def set_exception(self, error):
        if not self.over:
            self.end(None, error)

    def exception(self):
        """Nobody needs to ask for it."""

    cdef int step(self) except -1:
        try:
            value = self.advance()
            if value is waiting:
                return 0
            data = self.route.response((<tuple>value)[0])
        except (Exception, CancelledError) as error:
            self.end(None, error)
        else:
            self.end(data, None)
        return 1

    cdef object advance(self):
        """Goes as far as it can: `waiting`, or the response in a tuple."""
        cdef PyObject *found = NULL
        cdef int how
        while True:
            if self.doomed:
                self.doomed = False
                try:
                    awaited = self.steps.throw(CancelledError())
                except StopIteration as ended:
                    return (ended.value,)
            else:
                how = PyIter_Send(self.steps, None, &found)
                awaited = <object>found
                Py_DECREF(awaited)
                if how != PYGEN_NEXT:
                    return (awaited,)
            self.awaited = awaited
            if awaited is None:
                return waiting
            awaited._asyncio_future_blocking = False  # as a task says that it has understood
            if self.doomed and awaited.cancel():
                self.doomed = False
            if not awaited.done():
                return waiting

    cdef int go_on(self) except -1:
        """The turn it came in is over: whether it has ended, or else goes on by itself."""
        if self.over:
            return 1
        if not self.told and (
                self.awaited is None or self.doomed or self.awaited.done()) and self.step():
            return 1
        if self.deadline_ms:
            self.timer = self.calls.loop.call_later(self.deadline_ms / 1000.0, self.expire)
        if not self.told:
            self.wait()
        return 0

    cdef int wait(self) except -1:
        if self.awaited is None:
            self.calls.loop.call_soon(self)
        else:
            self.awaited.add_done_callback(self)
        return 0

    def expire(self):
        """Its deadline has passed."""
        self.expired = True
        self.cancel()

    cdef int end(self, bytes data, object error) except -1:
        cdef ServedCalls calls = self.calls
        self.over = True
        if self.timer is not None:
            self.timer.cancel()
        self.steps = self.awaited = self.timer = None
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
        calls.remove(self.request_id, self, self.size)
        if error is None:
            calls.exchange.respond(self.request_id, data)
        else:
            calls.connection.answer_failed(
                self.route.path, self.request_id, error, self.deadline_ms if self.expired else 0)
        return calls.answered()


cdef object waiting = object()  # of `advance`

"""Answers the calls that guests post: the Python half, on one event loop.

Rule: one loop serves an executor at a time: the one that runs where handlers are given or where a
guest that posts is started; where none runs, or after that one was closed, a thread of its own with
a loop. A turn takes a bounded number of requests; its answers leave together. A handler is a plain
function, called in the turn; what it returns is the answer or, only if it must wait, an awaitable,
which becomes a task. The task of a guest that has ended is cancelled; a handler that fails gives
-EIO, a line in the guest's log and a word to who asked for it; nothing it does leaves a guest
waiting.
"""

import contextlib
import os
import sys

cimport cython
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.abibits cimport EIO, ENOMEM
from spear._core.callvalues cimport (
    checked_answer, plain_status, request_arguments, tell_answers)
from spear._core.completions cimport running_loop
from spear._core.guest cimport *
from spear._core.hosthandles cimport handle_open
from spear._core.hub cimport backlog_pop, hub_collect, hub_new, hub_quiet, hub_release, hub_ring
from spear._core.nativehandles cimport TOPIC_HANDLE, handle_release, handle_t
from spear._core.openhandles cimport OpenHandles
from spear._core.post cimport *
from spear._core.states cimport executor_release
from spear._core.sync cimport *

from spear._core.handles import Drafted
from spear.errors import InvalidArgument, NodeBusy

cdef enum:
    LOG_BYTES_MAX = 16384
    FEW = 4                # answers whose wake-ups cost less than to give up the GIL and take it

CLOSE_S = 5.0              # how long a close waits for handlers that do not heed their cancelling

cdef Call _new_call(Door door, request_t *request):
    # Before anything that may give up the GIL: the run keeps it as long as its guest has not ended.
    cdef void *given = request.guest.start_context
    context = None if given == NULL else <object>given
    cdef Call call = Call.__new__(Call)
    request_retain(request)
    call.request, call.door, call.op = request, door, request.row.op
    call.context = context
    call.args = request_arguments(request)
    return call


@cython.freelist(64)
@cython.no_gc_clear
cdef class Call:
    """One call of a guest; see door.pyi."""

    def __init__(self):
        raise TypeError("Call objects are made for handlers")

    def __dealloc__(self):
        if self.request != NULL:
            request_release(self.request)

    def __repr__(self):
        return f"<Call {self.name} of guest {self.guest:#x}>"

    @property
    def name(self):
        return f"{self.request.row.module.decode()}.{self.request.row.name.decode()}"

    @property
    def guest(self):
        return <uint64_t>self.request.guest

    @property
    def gone(self):
        return (load32(&self.request.turn) == TURN_GONE
                or load32(&self.request.guest.state) == ENDED)

    def log(self, int level, str message not None):
        line = message.encode("utf-8", "surrogateescape")[:LOG_BYTES_MAX]
        cdef const char *text = line
        cdef size_t size = len(line)
        if not self.gone:
            with nogil:
                guest_log(self.request.guest, level, STREAM_LOG, text, size)

    async def tool(self, function, bytes args not None, arena, out_max):
        """Runs one of the guest's own functions; see door.pyi."""
        self._ask_tool(function, args, arena, out_max)
        self.tool_ended = self.door.loop.create_future()
        try:
            status, output = await self.tool_ended
        finally:
            self.tool_ended = None
        if status != 0:
            return status, ""
        try:
            return 0, output.decode()
        except UnicodeDecodeError:
            return -EIO, ""

    cdef int _ask_tool(self, function, bytes args, arena, out_max) except -1:
        cdef request_t *request = self.request
        if request.call != <void *>self:
            raise RuntimeError(f"{self.name} was answered, or its guest has ended: no more tools")
        if self.away:
            raise RuntimeError(f"{self.name} runs a tool already: one at a time")
        if request.guest.shim == NULL:
            raise RuntimeError(f"{self.name} calls no tools")
        request.function, request.out_max = function, out_max
        request.arena_at, request.arena_size = arena
        if not bytes_replace(&request.data, &request.size, args, len(args)):
            raise MemoryError("no memory for a tool's arguments")
        request.more, self.away = True, True
        self.door.calls.add(self)
        self.door._send(request)
        return 0

    cdef _next_turn(self):
        """The guest came back from a tool, or it has ended."""
        cdef request_t *request = self.request
        if load32(&request.turn) == TURN_GONE:
            self.door._forget(self)
            if self.last_word is not None and isinstance(self.last_word[1], Handle):
                self.door.handles.let_go(self.last_word[1])
            self._cancel()
            return
        self.away = False
        if self.last_word is not None:
            status, data = self.last_word
            self.door._reply(self, status, data)
        elif self.tool_ended is not None and not self.tool_ended.done():
            self.tool_ended.set_result(
                (request.tool_status, request.output[:request.output_size]))

    cdef _cancel(self):
        """Its handler's task, if it has one."""
        if self.task is not None:
            self.task.cancel()
        if self.unbegun is not None and hasattr(self.unbegun, "close"):
            self.unbegun.close()
        self.task = self.unbegun = self.attending = None


async def _attend(Door door, Call call):
    """A handler that must wait."""
    awaitable = call.unbegun
    call.unbegun = call.attending = None
    try:
        door._settle(call, await awaitable)
    except BaseException as error:
        door._fail(call, error)
        if not isinstance(error, Exception):
            raise
    finally:
        call.task = None


@cython.no_gc_clear
cdef class Door:
    """Answers the calls of one executor's guests; see door.pyi."""

    def __cinit__(self):
        self.post.hub = hub_new()
        if self.post.hub == NULL:
            raise MemoryError("no eventfd for the calls of guests")
        self.post.open = handle_open
        self.handlers, self.calls, self.quiet_fd = {}, set(), -1
        self.handles = OpenHandles()
        self.handles.hub, self.handles.failed = self.post.hub, self._callback_failed

    def __dealloc__(self):
        if self.post.hub != NULL:
            self._drop_notes()
        if self.post.hub != NULL:
            hub_release(self.post.hub)
        if self.executor != NULL:
            executor_release(self.executor)

    cdef void _drop_notes(self) noexcept:
        """Nobody is left to be told; what a note lets go of may leave another."""
        cdef void *what
        hub_collect(self.post.hub, &self.backlog)
        while self.backlog.oldest != NULL:
            what = backlog_pop(&self.backlog)
            if (<int32_t *>what)[0] == TOPIC_HANDLE:
                handle_release(<handle_t *>what)
            else:
                request_release(<request_t *>what)
            hub_collect(self.post.hub, &self.backlog)

    cdef int serve(self, handlers) except -1:
        """More handlers; the loop that runs here serves, if none does yet."""
        for op, handler in handlers.items():
            if not isinstance(op, int) or not 0 <= op < OPS:
                raise InvalidArgument(f"operation code {op!r}: expected 0 to {OPS - 1}")
            if not callable(handler):
                raise InvalidArgument(f"the handler of operation {op} is {handler!r}: no function")
        for op, handler in handlers.items():
            self.handlers[op] = handler
            self.post.answers[<int>op] = 1
        self.post.drafts = any(isinstance(one, Drafted) for one in self.handlers.values())
        loop = running_loop()
        if loop is not None and not self.alone:
            self.bind(loop)
        return 0

    cdef bint serves_here(self):
        """Whether this thread's loop answers: then nothing on it may block for a guest."""
        return self.loop is not None and self.loop is running_loop()

    cdef int ensure_served(self) except -1:
        """Before a guest that posts is started."""
        if self.loop is not None and self.loop.is_closed():
            self.lose(self.mark)
        loop = running_loop()
        if self.loop is not None or self.alone or self.closed:
            return 0
        if loop is not None:
            self.bind(loop)
        else:
            self._serve_alone()
        return 0

    cdef bind(self, loop):
        """Unless another thread was quicker."""
        from spear._core.loopend import LoopEnd

        mark, quiet_fd = object(), os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if not self._take(loop, mark):
            os.close(quiet_fd)
            return
        self.quiet_fd = quiet_fd
        loop.add_reader(quiet_fd, LoopEnd(self.lose, mark))
        loop.add_reader(self.post.hub.fd, self.ring)
        self.drain_due = True              # what another loop took and did not look at
        loop.call_soon(self.drain)

    cdef bint _take(self, loop, mark):
        """No code of others runs in here, so no other thread comes between."""
        if self.loop is not None:
            return False
        self.loop, self.mark = loop, mark
        return True

    def lose(self, mark):
        """The loop was closed. What it had begun fails; what it had not is served elsewhere."""
        if mark is not self.mark or self.executor.generation != engineapi.generation():
            return
        self.loop = self.mark = None
        self._close_quiet()
        self.drain_due = self.draining = self.alone = False
        for call in list(self.calls):
            (<Call>call).task = None       # nobody steps it any more
            if (<Call>call).attending is not None:
                (<Call>call).attending.close()
            (<Call>call)._cancel()
            self._fail(call, RuntimeError("the event loop that served it was closed"))
        self.handles.fail()
        self._flush()
        if self.closed:
            self._let_all_go()
        elif not sys.is_finalizing():
            self._serve_alone()

    # ---- a turn

    def ring(self):
        if not self.drain_due:
            self._drain()

    def drain(self):
        self._drain()

    cdef _drain(self):
        """A bounded number of requests, then the loop's other work."""
        cdef void *what
        self.drain_due, self.draining = False, True
        hub_quiet(self.post.hub)
        hub_collect(self.post.hub, &self.backlog)
        try:
            for _ in range(TURN_MAX):
                what = backlog_pop(&self.backlog)
                if what == NULL:           # a handler that closes the executor leaves none
                    break
                self._look_at(what)
        finally:
            self.draining = False
            self._flush()
            if self.backlog.oldest != NULL and self.loop is not None:
                self._go_on()

    cdef _go_on(self):
        """The rest of the requests, in another turn."""
        try:
            self.loop.call_soon(self.drain)
            self.drain_due = True
        except MemoryError:
            hub_ring(self.post.hub)

    cdef _look_at(self, void *what):
        if (<int32_t *>what)[0] == TOPIC_HANDLE:
            self.handles.leave(<handle_t *>what)
        else:
            self._look_at_request(<request_t *>what)

    def _callback_failed(self, error):
        if self.loop is not None:
            self.loop.call_exception_handler(
                {"message": "told that its guest closed a handle, raised", "exception": error})

    cdef _look_at_request(self, request_t *request):
        """What a note is about: a new request, one whose tool ended, or one whose guest did."""
        cdef Call call = None if request.call == NULL else <Call>request.call   # kept meanwhile
        try:
            if call is not None:
                call._next_turn()
            elif load32(&request.turn) == TURN_PYTHON:
                self._begin(request)
        finally:
            request_release(request)

    cdef _begin(self, request_t *request):
        cdef Call call
        adopted = None                     # kept by `args` too, once there are any
        try:
            if request.handle != NULL and request.handle.face == NULL:
                adopted = self.handles.adopt(request.handle)
            call = _new_call(self, request)
        except MemoryError:
            request.status = -ENOMEM
            self._send(request)
            return
        handler = self.handlers[call.op]
        request.call = <void *>call        # kept by this step, and by `calls` beyond it
        try:
            result = handler(call)
            if isinstance(result, (int, bytes, tuple)) or not hasattr(result, "__await__"):
                self._settle(call, result)
            else:
                self.calls.add(call)
                call.unbegun, call.attending = result, _attend(self, call)
                call.task = self.loop.create_task(call.attending)
        except BaseException as error:
            self._hold(call)
            self._fail(call, error)
            if not isinstance(error, Exception):
                raise

    cdef _hold(self, Call call):
        """A guest that has ended asks for it once more; where it cannot be kept, it does not."""
        try:
            if call.request.call != NULL:
                self.calls.add(call)
        except MemoryError:
            call.request.call = NULL

    cdef _forget(self, Call call):
        self.calls.discard(call)
        call.request.call = NULL

    # ---- answers

    cdef _settle(self, Call call, object result):
        """What a handler gave: a status, bytes out, or both; or a handle."""
        cdef int32_t plain
        if plain_status(result, &plain):
            self._reply(call, plain, None)
        elif isinstance(result, Handle):
            (<Handle>result).give()
            self._reply(call, 0, result)
        else:
            status, data = checked_answer(result)
            self._reply(call, status, data)

    cdef _fail(self, Call call, object error):
        if call.gone or call.answered:
            return
        self._reply(call, -EIO, None)      # first: it needs no memory, and the guest waits for it
        call.log(LEVEL_ERROR, f"{call.name} failed: {type(error).__name__}: {error}")
        if self.failed is None:
            return
        try:
            self.failed(call, error)
        except Exception as again:
            if self.loop is not None:
                self.loop.call_exception_handler(
                    {"message": f"told of a failure of {call.name}, raised", "exception": again})

    cdef _reply(self, Call call, int32_t status, object data):
        """The last word; it waits where the guest runs a tool."""
        cdef request_t *request = call.request
        call.answered = True
        if call.away:
            call.last_word = status, data
            return
        self._forget(call)
        request.status, request.more = status, False
        free(request.data)
        request.data = NULL
        if isinstance(data, Handle):
            if not self._promise(request, data):
                request.status = -ENOMEM
        elif data is not None and not bytes_replace(
                &request.data, &request.size, <bytes>data, len(data)):
            request.status = -ENOMEM
        self._send(request)

    cdef bint _promise(self, request_t *request, Handle handle) except -1:
        try:
            return self.handles.promise(request, handle)
        except MemoryError:
            self.handles.let_go(handle)
            return False

    cdef _send(self, request_t *request):
        """Goes to the guest at the end of this turn."""
        request_retain(request)
        self.answered[self.answered_count] = request
        self.answered_count += 1
        if self.answered_count == TURN_MAX:
            self._flush()
        elif not self.draining and not self.flush_due:
            self._schedule()

    cdef _schedule(self):
        if self.loop is None or self.loop.is_closed():
            self._flush()
        else:
            try:
                self.loop.call_soon(self.flush)
                self.flush_due = True
            except MemoryError:
                self._flush()

    def flush(self):
        self._flush()

    cdef _flush(self):
        """The answers of this turn, and the wake-ups; where they are many, without the GIL."""
        cdef request_t *requests[TURN_MAX]
        cdef int count = self.answered_count
        self.answered_count, self.flush_due = 0, False
        memcpy(requests, self.answered, count * sizeof(requests[0]))
        if count <= FEW:
            tell_answers(self.executor, requests, count)
        else:
            with nogil:
                tell_answers(self.executor, requests, count)

    # ---- a loop of its own, and the end

    cdef _serve_alone(self):
        if self.alone:
            return
        self.alone = True
        import threading

        self.thread = threading.Thread(
            target=_alone, args=(self,), name="spear-calls", daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            self.thread, self.alone = None, False
            raise NodeBusy("the system gives no more threads") from error

    async def stay(self):
        """The own thread's main task: until the door is closed."""
        loop = running_loop()
        self.dismissed = loop.create_future()
        self.bind(loop)
        try:
            if not self.closed:
                await self.dismissed
        finally:
            if self.closed:        # else the loop ends for another reason: see lose
                self.leave()

    def leave(self):
        """The last turn, on the loop: every end is told, then the loop forgets the door."""
        if self.mark is None:
            return
        self._drain()
        while self.backlog.oldest != NULL or load_ptr(&self.post.hub.head) != NULL:
            self._drain()
        self.mark = None
        for call in list(self.calls):
            (<Call>call)._cancel()
        self.loop.remove_reader(self.post.hub.fd)
        self.loop.remove_reader(self.quiet_fd)
        self._close_quiet()

    cdef _let_all_go(self):
        """All guests have ended, and no loop is left for what their notes say."""
        hub_collect(self.post.hub, &self.backlog)
        while self.backlog.oldest != NULL:
            self._look_at(backlog_pop(&self.backlog))
            hub_collect(self.post.hub, &self.backlog)

    cdef _close_quiet(self):
        if self.quiet_fd >= 0:
            os.close(self.quiet_fd)
        self.quiet_fd = -1

    cdef int shut(self, bint join) except -1:
        """Once all guests have ended; any thread."""
        if self.closed:
            return 0
        self.closed = True
        loop, thread = self.loop, self.thread
        if loop is not None and thread is None and loop is running_loop():
            self.leave()
        elif loop is not None:
            with contextlib.suppress(RuntimeError):    # it was closed just now
                loop.call_soon_threadsafe(self.leave if thread is None else self.dismiss)
        elif not self.alone:
            self._let_all_go()
        if join and thread is not None:
            import threading

            own = thread is threading.current_thread() or not thread.is_alive()
            if not own and not sys.is_finalizing():
                thread.join(CLOSE_S)
        return 0

    def dismiss(self):
        """On the own loop: its main task ends, and the loop with it."""
        if not self.dismissed.done():
            self.dismissed.set_result(None)


def _alone(Door door):
    import asyncio

    with contextlib.suppress(SystemExit):      # a handler's: it ends this thread, not the process
        asyncio.run(door.stay())

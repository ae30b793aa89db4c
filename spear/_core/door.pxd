"""The contract of the door: Python's side of the calls that guests post; see door.pyx."""

from libc.stdint cimport int32_t

from spear._core.hub cimport backlog_t
from spear._core.handles cimport Handle
from spear._core.openhandles cimport OpenHandles
from spear._core.post cimport post_t, request_t
from spear._core.states cimport executor_t

cdef enum:
    TURN_MAX = 256                 # requests taken in one turn of the loop


cdef class Door:
    cdef post_t post
    cdef executor_t *executor      # retained
    cdef dict handlers             # operation code -> handler
    cdef object failed             # told of a handler's error, or None
    cdef set calls                 # where a handler goes on
    cdef OpenHandles handles       # that guests have
    cdef backlog_t backlog         # notes about requests
    cdef object loop               # that serves; None: none does
    cdef object mark               # of this loop's time as the server
    cdef int quiet_fd              # by which the end of the loop is seen
    cdef object thread             # its own, where no loop was there to serve
    cdef bint alone                # that thread serves, or is about to
    cdef object dismissed          # future: its own loop is to end
    cdef bint closed
    cdef bint draining
    cdef bint flush_due
    cdef bint drain_due
    cdef request_t *answered[TURN_MAX]    # to be woken at the end of this turn
    cdef int answered_count

    cdef bint serves_here(self)
    cdef int serve(self, handlers) except -1
    cdef int ensure_served(self) except -1
    cdef int shut(self, bint join) except -1
    cdef bind(self, loop)
    cdef _close_quiet(self)
    cdef bint _take(self, loop, mark)
    cdef _drain(self)
    cdef _go_on(self)
    cdef _flush(self)
    cdef _look_at(self, void *what)
    cdef _look_at_request(self, request_t *request)
    cdef _let_all_go(self)
    cdef void _drop_notes(self) noexcept
    cdef _begin(self, request_t *request)
    cdef _hold(self, Call call)
    cdef _forget(self, Call call)
    cdef _settle(self, Call call, object result)
    cdef _fail(self, Call call, object error)
    cdef _reply(self, Call call, int32_t status, object data)
    cdef bint _promise(self, request_t *request, Handle handle) except -1
    cdef _send(self, request_t *request)
    cdef _schedule(self)
    cdef _serve_alone(self)


cdef class Call:
    cdef request_t *request        # retained
    cdef Door door
    cdef object task               # of its handler
    cdef object attending          # that task's coroutine, and what it is to await:
    cdef object unbegun            # while it has not begun
    cdef object tool_ended         # future: the tool that the handler waits for
    cdef object last_word          # (status, data) said while the guest ran a tool
    cdef bint away                 # the guest runs a tool: it is not ours to answer now
    cdef bint answered
    cdef readonly int op
    cdef readonly tuple args
    cdef readonly object context

    cdef _next_turn(self)
    cdef _cancel(self)
    cdef int _ask_tool(self, function, bytes args, arena, out_max) except -1

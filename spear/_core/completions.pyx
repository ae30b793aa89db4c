"""Tells event loops which runs and channels have something new: the Python half.

Rule: a loop is told through one eventfd; a turn of the loop is bounded; what nobody awaits any more
is not kept. Each wait is told once and looks again.
"""

import contextlib
import sys

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from spear._core.guest cimport *
from spear._core.hub cimport *
from spear._core.sync cimport *

cdef enum:
    DRAIN_MAX = 256                # notes told in one turn of the loop


cdef object running_loop():
    asyncio = sys.modules.get("asyncio.events")
    running = getattr(asyncio, "_get_running_loop", None)    # none while it is being imported
    return None if running is None else running()


@cython.no_gc_clear
cdef class Hub:
    """Tells one event loop what has changed; what is waited for is known by its address."""

    def __cinit__(self, loop):
        self.native = hub_new()
        if self.native == NULL:
            raise MemoryError("no eventfd for the event loop")
        self.loop, self.waiting, self.backlog = loop, {}, []
        loop.add_reader(self.native.fd, self.drain)

    def __dealloc__(self):
        if self.native != NULL:
            hub_release(self.native)

    cdef object future_of(self, guest_t *guest, object run, bint news):
        """A future of this loop that is set when it is time to look again; `run` is kept."""
        future = self.loop.create_future()
        cdef Watch watch = guest_watch(guest, self.native, news)
        if watch == ELSEWHERE:
            raise RuntimeError("the run is awaited by another event loop already")
        if watch == LOOK_AGAIN:
            future.set_result(None)
            return future
        self.expect(guest, run, future)
        return future

    cdef int let_go(self, guest_t *guest) except -1:
        """After a wait: a run that nobody awaits any more is not kept."""
        if self.forget(guest):
            guest_unwatch(guest, self.native)
        return 0

    cdef int expect(self, void *what, object keeper, object future) except -1:
        """Has `future` set at the next note about `what`, which `keeper` keeps."""
        self.waiting.setdefault(<uint64_t>what, (keeper, []))[1].append(future)
        return 0

    cdef bint forget(self, void *what) except -1:
        """True once if nobody waits for `what` any more."""
        entry = self.waiting.get(<uint64_t>what)
        if entry is None or not all([future.done() for future in entry[1]]):
            return False
        del self.waiting[<uint64_t>what]
        return True

    def drain(self):
        """A bounded number of notes a turn, then the loop's other work."""
        hub_quiet(self.native)
        self._collect()
        for _ in range(min(DRAIN_MAX, len(self.backlog))):
            _, futures = self.waiting.pop(self.backlog.pop(), (None, ()))
            for future in futures:
                if not future.done():
                    future.set_result(None)
        if self.backlog:
            self.loop.call_soon(self.drain)

    cdef _collect(self):
        """The native list is newest first, and so the backlog is popped oldest first."""
        cdef note_t *note = hub_take(self.native)
        cdef note_t *following
        fresh = []
        while note != NULL:
            following = note.next
            fresh.append(<uint64_t>note.what)
            note.release(note.what)
            free(note)
            note = following
        self.backlog[:0] = fresh

    def drain_all(self):
        """The last turn: every end is told, then the loop forgets the hub."""
        self.drain()
        while self.backlog:
            self.drain()
        self.loop.remove_reader(self.native.fd)

    def close(self):
        """From any thread, once all runs have ended."""
        if self.loop is running_loop():
            self.drain_all()
        elif not self.loop.is_closed():
            with contextlib.suppress(RuntimeError):    # the loop was closed just now
                self.loop.call_soon_threadsafe(self.drain_all)

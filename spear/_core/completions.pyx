"""Tells event loops which runs have ended: a list without locks and an eventfd for each loop.

Rule: a guest tells at most one loop, once; whoever swaps the hub out of its record does the
telling. The eventfd is written only when the list was empty, and a turn of the loop is bounded.
"""

import contextlib
import sys

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from spear._core.guest cimport *
from spear._core.sync cimport *

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int start, int flags)
    const int EFD_NONBLOCK, EFD_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *data, size_t size)
    ssize_t write(int fd, const void *data, size_t size)
    int close(int fd)

cdef enum:
    DRAIN_MAX = 256                # ends told in one turn of the loop


cdef hub_t *hub_new() noexcept nogil:
    cdef hub_t *hub = <hub_t *>calloc(1, sizeof(hub_t))
    if hub == NULL:
        return NULL
    hub.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    hub.refs = 1
    if hub.fd < 0:
        free(hub)
        return NULL
    return hub


cdef void hub_release(hub_t *hub) noexcept nogil:
    cdef guest_t *guest
    cdef guest_t *following
    if add64(&hub.refs, -1) != 0:
        return
    guest = hub_take(hub)
    while guest != NULL:
        following = guest.next_done
        guest_release(guest)
        guest = following
    close(hub.fd)
    free(hub)


cdef bint hub_watch(hub_t *hub, guest_t *guest) noexcept nogil:
    if load_ptr(&guest.hub) == hub:
        return True                # watched already, and not told yet
    add64(&hub.refs, 1)
    if cas_ptr(&guest.hub, NULL, hub):
        if load32(&guest.state) != ENDED:
            return True
        if not cas_ptr(&guest.hub, hub, NULL):
            return True            # its end has taken the hub and tells it
    hub_release(hub)
    return False


cdef void hub_tell(guest_t *guest) noexcept nogil:
    """After ENDED is visible; whoever swaps the hub out does the telling."""
    cdef hub_t *hub = <hub_t *>swap_ptr(&guest.hub, NULL)
    cdef void *head
    cdef uint64_t one = 1
    if hub == NULL:
        return
    guest_retain(guest)
    while True:
        head = load_ptr(&hub.head)
        guest.next_done = <guest_t *>head
        if cas_ptr(&hub.head, head, guest):
            break
    if head == NULL:
        write(hub.fd, &one, 8)
    hub_release(hub)


cdef guest_t *hub_take(hub_t *hub) noexcept nogil:
    return <guest_t *>swap_ptr(&hub.head, NULL)


cdef object running_loop():
    asyncio = sys.modules.get("asyncio.events")
    return None if asyncio is None else asyncio._get_running_loop()


cdef class Hub:
    """Tells one event loop which runs have ended."""

    def __cinit__(self, loop):
        self.native = hub_new()
        if self.native == NULL:
            raise MemoryError("no eventfd for the event loop")
        self.loop, self.waiting, self.backlog = loop, {}, []
        loop.add_reader(self.native.fd, self.drain)

    def __dealloc__(self):
        if self.native != NULL:
            hub_release(self.native)

    cdef object future_of(self, guest_t *guest, object run):
        """A future of this loop that is set when the run ends; `run` is kept until then."""
        future = self.loop.create_future()
        key = <uint64_t>guest
        entry = self.waiting.get(key)
        if entry is None:
            if not hub_watch(self.native, guest):
                if load32(&guest.state) != ENDED:
                    raise RuntimeError("the run is awaited by another event loop already")
                future.set_result(None)
                return future
            entry = self.waiting[key] = (run, [])
        entry[1].append(future)
        return future

    cdef int let_go(self, guest_t *guest) except -1:
        """After a wait: a run that nobody awaits any more is not kept."""
        entry = self.waiting.get(<uint64_t>guest)
        if entry is not None and all([future.done() for future in entry[1]]):
            del self.waiting[<uint64_t>guest]
        return 0

    def drain(self):
        """A bounded number of ends a turn, then the loop's other work."""
        cdef uint64_t count
        read(self.native.fd, &count, 8)
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
        cdef guest_t *guest = hub_take(self.native)
        cdef guest_t *following
        fresh = []
        while guest != NULL:
            following = guest.next_done
            fresh.append(<uint64_t>guest)
            guest_release(guest)
            guest = following
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

"""One guest in its caller's hands: wait for it, follow it, end it.

Rule: a Run only waits, reads and asks; it waits with the GIL released. A Run that nobody holds any
more is cancelled. In a coroutine a Run is awaited on the thread's event loop; where none runs the
Run yields itself, and who drives the coroutine calls `wait`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport free

from spear._core cimport engineapi
from spear._core.completions cimport Hub, running_loop
from spear._core.endpoints cimport user_stream, user_streams_close
from spear._core.engine cimport Module
from spear._core.guest cimport *
from spear._core.post cimport OBJECT_PUT
from spear._core.outcome cimport completed, fill_record, line_of, outcome_of
from spear._core.scheduler cimport watch_world
from spear._core.states cimport executor_doom, executor_t, executor_wake
from spear._core.stepper cimport world_step
from spear._core.sync cimport *
from spear._core.values cimport load_value

from spear.errors import InvalidArgument

cdef enum:
    WAIT_SLICE_NS = 50000000       # how long a wait may go without looking for signals
    BURST_STEPS = 20               # of a world in one turn of an event loop
    LOG_BATCH = 256


cdef uint64_t STEPS_ANY = <uint64_t>1 << 62


cdef class ExecutorOwner:
    """Holds an executor and the hubs through which event loops hear of it."""

    cdef bint asks(self, Module module) noexcept:
        """Whether guests of it may wait for a handler."""
        return self.door is not None and (
            len(module.posted) > 0
            or module.puts_objects and self.door.post.answers[OBJECT_PUT])

    cdef int check_may_block(self, Module module) except -1:
        """A thread whose loop answers the guests' calls must not stand still for a guest."""
        if self.asks(module) and self.door.serves_here():
            raise RuntimeError(
                "this thread's event loop answers the guest's calls: await the run instead")
        return 0

    cpdef Hub hub_of(self, loop):
        hub = self.hubs.get(loop)
        if hub is None:
            for old in [old for old in self.hubs if old.is_closed()]:
                del self.hubs[old]
            hub = self.hubs[loop] = Hub(loop)
        return hub


@cython.no_gc_clear
cdef class Run:
    """One run of a module; made by `Executor.start`; waited for once or often, by any thread."""

    def __cinit__(self):
        if not _making:
            raise TypeError("Run objects are made by Executor.start")

    def __dealloc__(self):
        if self.guest == NULL or self.executor.native.generation != engineapi.generation():
            return                 # a forked child leaves all to its parent
        if self.guest.executor != NULL:
            with nogil:
                executor_doom(self.executor.native, self.guest, CAUSE_CANCELLED)
                self.await_end(INT64_MAX, False)
        guest_release(self.guest)

    cdef bint ended(self) noexcept nogil:
        return load32(&self.guest.state) == ENDED

    cdef bint has_news(self) noexcept nogil:
        return guest_has_news(self.guest)

    cdef bint await_end(self, int64_t until_ns, bint events) noexcept nogil:
        """Until the end, news (with `events`) or `until_ns`, whichever is first.

        In a world whoever waits makes it go on.
        """
        cdef int64_t left
        cdef int32_t seen
        cdef bint stop = False
        if self.executor.native.world != NULL and self.step(until_ns, STEPS_ANY, events):
            return self.ended()
        add32(&self.guest.waiters, 1)
        while not stop:
            seen = load32(&self.guest.events)
            left = INT64_MAX if until_ns == INT64_MAX else until_ns - monotonic_ns()
            stop = self.ended() or left <= 0 or (events and self.has_news())
            if not stop:
                futex_wait(&self.guest.events, seen, -1 if until_ns == INT64_MAX else left)
        add32(&self.guest.waiters, -1)
        return self.ended()

    cdef bint step(self, int64_t until_ns, uint64_t steps_max, bint events) noexcept nogil:
        """Makes the world go on; False where nothing is due, so that only others can help."""
        cdef executor_t *executor = self.executor.native
        cdef uint64_t last = executor.world.steps + steps_max
        cdef bint going = True
        watch_world(executor, True)
        while going and not self.ended() and not (events and self.has_news()):
            if monotonic_ns() >= until_ns or executor.world.steps >= last:
                break
            going = world_step(executor)
        watch_world(executor, False)
        return going

    cdef int burst(self, bint events) except -1:
        """As far as a world goes in one turn of an event loop: a number of steps, not a time."""
        with nogil:
            self.step(monotonic_ns() + WAIT_SLICE_NS, BURST_STEPS, events)
        return 0

    @property
    def done(self):
        return bool(self.ended())

    def wait(self, timeout_s=None, *, bint events=False):
        """True once ended; False at the time limit or, with `events`, when there is news."""
        if timeout_s is not None and timeout_s != timeout_s:
            raise InvalidArgument("timeout_s is not a number")
        cdef int64_t until_ns = INT64_MAX, slice_ns, now
        cdef bint ended = self.ended()
        if not ended and (timeout_s is None or timeout_s > 0):
            self.executor.check_may_block(self.module)
        if timeout_s is not None:
            until_ns = monotonic_ns() + <int64_t>(min(max(timeout_s, 0.0), 1e9) * 1e9)
        while not ended and not (events and self.has_news()):
            now = monotonic_ns()
            if now >= until_ns:
                return False
            slice_ns = min(until_ns, now + WAIT_SLICE_NS)
            with nogil:
                ended = self.await_end(slice_ns, events)
            PyErr_CheckSignals()
        return bool(ended)

    def changed(self):
        """Awaitable: True once ended, False as soon as output or log lines can be read."""
        return Changed(self)

    def call_back(self, callback, *, bint news=False):
        """Has this thread's loop call `callback(run)`, once; see run.pyi."""
        loop = running_loop()
        if loop is None:
            raise RuntimeError("no event loop runs on this thread: wait for the run instead")
        if self.executor.native.world != NULL:
            raise InvalidArgument("a deterministic run goes on only while it is waited for")
        cdef Hub hub = self.executor.hub_of(loop)
        cdef Watch watch = guest_watch(self.guest, hub.native, news)
        if watch == ELSEWHERE:
            raise RuntimeError("the run is awaited by another event loop already")
        if watch == LOOK_AGAIN:
            loop.call_soon(callback, self)
        else:
            hub.expect(self.guest, self, _Callback(loop, callback, self))
        return None

    def cancel(self, reason="", said=""):
        """Ends the guest wherever it is; False if its end was settled already. See run.pyi."""
        cdef bint ours
        if self.ended():
            return False
        self.reason = self.reason or str(reason)
        said = said or f"Terminate execution{': ' if self.reason else ''}{self.reason}"
        line = said.encode()
        cdef const char *text = line
        cdef size_t size = len(line)
        with nogil:
            guest_log(self.guest, LEVEL_WARN, STREAM_LOG, text, size)
            ours = executor_doom(self.executor.native, self.guest, CAUSE_CANCELLED)
        return bool(ours)

    def read_logs(self, Py_ssize_t count_max=LOG_LINES_MAX):
        """Takes the lines logged since the last call, oldest first."""
        cdef log_entry *entries[LOG_BATCH]
        cdef Py_ssize_t taken, index, wanted
        cdef bint room = False
        lines = []
        while len(lines) < count_max:
            wanted = min(count_max - <Py_ssize_t>len(lines), <Py_ssize_t>LOG_BATCH)
            with nogil:
                taken = guest_take_logs(self.guest, entries, wanted, &room)
                if room:
                    executor_wake(self.executor.native, self.guest)
            for index in range(taken):
                lines.append(line_of(entries[index]))
                free(entries[index])
            if taken < LOG_BATCH:
                break
        return lines

    def read_output(self):
        """Takes what was written to stdout since the last call."""
        cdef size_t size
        with nogil:                    # the lock is never held while the GIL is waited for
            pthread_mutex_lock(&self.guest.lock)
            size = self.guest.output.size - self.guest.output_read
            pthread_mutex_unlock(&self.guest.lock)
        if size == 0:
            return b""
        data = PyBytes_FromStringAndSize(NULL, size)
        cdef char *out = PyBytes_AS_STRING(data)
        with nogil:
            size = guest_take_output(self.guest, out, size)
        return data if size == <size_t>len(data) else data[:size]

    def stream(self, id, *, wait_s=30.0):
        """The client's end of one of the guest's user streams; see run.pyi."""
        if self.executor.native.world != NULL:
            raise InvalidArgument("a deterministic run has no streams: clients are in real time")
        return user_stream(self.guest, self.executor, id, wait_s)

    def close_streams(self):
        """The clients of all streams are gone; see run.pyi."""
        user_streams_close(self.guest)

    cdef int check_ended(self) except -1:
        if not self.ended():
            raise RuntimeError("the run has not ended yet: wait for it first")
        return 0

    @property
    def outcome(self):
        """How it ended; RuntimeError before."""
        self.check_ended()
        return outcome_of(self.guest, self.reason, self.limits)

    @property
    def completed(self):
        """Whether it has ended, and well."""
        return bool(self.ended() and completed(self.guest))

    def fill(self, record):
        """Sets what it used and gave on a record; see run.pyi."""
        self.check_ended()
        fill_record(self.guest, record)
        if completed(self.guest):
            record.value = self.values()

    cdef tuple values(self):
        """What the called function gave; nothing where it left by proc_exit."""
        cdef int at
        if self.guest.exited or self.signature is None:
            return ()
        return tuple([
            load_value(&self.guest.values[self.guest.value_count + at], self.signature.results[at])
            for at in range(self.signature.result_count)])

    @property
    def value(self):
        """What the called function gave: a number, a tuple of several, or None.

        RuntimeError before the end, and where it did not return.
        """
        self.check_ended()
        if self.guest.cause != CAUSE_EXIT or self.guest.exited:
            raise RuntimeError("the function did not return: see outcome")
        values = self.values()
        return (values[0] if len(values) == 1 else values) if values else None

    @property
    def output(self):
        """All of stdout; RuntimeError before the end."""
        self.check_ended()
        return self.guest.output.data[:self.guest.output.size] if self.guest.output.size else b""

    def __await__(self):
        return _awaiting(self)


cdef bint _making = False             # true while this module makes a handle


cdef Run new_run():
    global _making
    _making = True
    try:
        return Run.__new__(Run)
    finally:
        _making = False


cdef class _Callback:
    """Stands among a hub's futures for a caller who needs no future and no turn of the loop."""

    cdef object loop, callback, run

    def __cinit__(self, loop, callback, run):
        self.loop, self.callback, self.run = loop, callback, run

    def done(self):
        return False

    def set_result(self, _):
        try:
            self.callback(self.run)
        except Exception as error:     # of the callback alone: the hub has others to tell
            self.loop.call_exception_handler(
                {"message": "a run's callback failed", "exception": error})


class Changed:
    """What `Run.changed` gives: to be awaited or, by the driver of a coroutine, waited for."""

    __slots__ = ("_run",)

    def __init__(self, run):
        self._run = run

    def wait(self, timeout_s=None):
        """As `Run.wait` with events."""
        return self._run.wait(timeout_s, events=True)

    def __await__(self):
        yield from _looking(self._run, self, True)
        return self._run.done


def _awaiting(run):
    yield from _looking(run, run, False)
    return run.outcome


def _looking(Run run, waiter, bint news):
    """Waits on the thread's event loop; without one whoever drives the coroutine waits."""
    cdef Hub hub
    while not run.ended() and not (news and run.has_news()):
        loop = running_loop()
        if loop is None:
            yield waiter
            continue
        if run.executor.native.world != NULL:
            run.burst(news)
            yield                  # the loop's other work has its turn
            continue
        hub = run.executor.hub_of(loop)
        future = hub.future_of(run.guest, run, news)
        try:
            yield from future
        finally:
            hub.let_go(run.guest)

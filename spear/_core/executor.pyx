"""Runs guests on fibers over native worker threads: the Python face of the scheduler.

Rule: decides nothing; it fills guest records, waits with the GIL released, and reads results. A Run
that nobody holds any more is cancelled. In a coroutine a Run is awaited on the thread's event loop;
where none runs the Run yields itself, and who drives the coroutine calls `wait`.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport free

from spear._core cimport engineapi
from spear._core.engine cimport Module
from spear._core.completions cimport Hub, running_loop
from spear._core.door cimport Door
from spear._core.guest cimport *
from spear._core.outcome cimport cause_name, line_of, outcome_of
from spear._core.scheduler cimport *
from spear._core.sync cimport *

from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit, NodeBusy, NodeClosed

cdef enum:
    WAIT_SLICE_NS = 50000000       # how long a wait may go without looking for signals
    LOG_BATCH = 256

TIMEOUT_NS_MAX = 365 * 24 * 3600 * 1_000_000_000
MEMORY_BYTES_MAX = 4 << 30
TABLE_ELEMENTS_MAX = 100_000
BATCH_MAX = 100_000_000


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
        """Until the end, news (with `events`) or `until_ns`, whichever is first."""
        cdef int64_t left
        cdef int32_t seen
        cdef bint stop = False
        add32(&self.guest.waiters, 1)
        while not stop:
            seen = load32(&self.guest.events)
            left = INT64_MAX if until_ns == INT64_MAX else until_ns - monotonic_ns()
            stop = self.ended() or left <= 0 or (events and self.has_news())
            if not stop:
                futex_wait(&self.guest.events, seen, -1 if until_ns == INT64_MAX else left)
        add32(&self.guest.waiters, -1)
        return self.ended()

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

    def cancel(self, reason=""):
        """Ends the guest wherever it is; False if its end was settled already."""
        cdef bint ours
        if self.ended():
            return False
        self.reason = self.reason or str(reason)
        line = f"Terminate execution{': ' if self.reason else ''}{self.reason}".encode()
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
        lines = []
        while len(lines) < count_max:
            wanted = min(count_max - <Py_ssize_t>len(lines), <Py_ssize_t>LOG_BATCH)
            with nogil:
                taken = guest_take_logs(self.guest, entries, wanted)
            for index in range(taken):
                lines.append(line_of(entries[index]))
                free(entries[index])
            if taken < LOG_BATCH:
                break
        return lines

    def read_output(self):
        """Takes what was written to stdout since the last call."""
        with nogil:
            pthread_mutex_lock(&self.guest.lock)
        cdef size_t begin = self.guest.output_read, end = self.guest.output.size
        try:
            data = self.guest.output.data[begin:end] if end > begin else b""
            self.guest.output_read = end
        finally:
            pthread_mutex_unlock(&self.guest.lock)
        return data

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


cdef Batch _new_batch():
    global _making
    _making = True
    try:
        return Batch.__new__(Batch)
    finally:
        _making = False


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
        hub = run.executor.hub_of(loop)
        future = hub.future_of(run.guest, run, news)
        try:
            yield from future
        finally:
            hub.let_go(run.guest)


cdef tuple _strings(items, what):
    """(strings one behind another, each with its NUL; how many there are)."""
    parts = []
    for item in items:
        if "\0" in item:
            raise InvalidArgument(f"{what} {item!r} has a NUL character")
        parts.append(item.encode("utf-8", "surrogateescape"))
    return b"\0".join(parts) + b"\0" if parts else b"", len(parts)


cdef int _check_options(
    timeout_ns, memory_bytes_max, output_bytes_max, log_bytes_max
) except -1:
    _check_range("timeout_ns", timeout_ns, 1, TIMEOUT_NS_MAX)
    _check_range("memory_bytes_max", memory_bytes_max, 65536, MEMORY_BYTES_MAX)
    _check_range("output_bytes_max", output_bytes_max, 0, 1 << 40)
    _check_range("log_bytes_max", log_bytes_max, 0, 1 << 40)
    return 0


cdef int _check_range(name, value, lowest, highest) except -1:
    if not isinstance(value, int):
        raise InvalidArgument(f"{name}={value!r}: expected an integer")
    if not lowest <= value <= highest:
        raise InvalidArgument(f"{name}={value}: expected {lowest} to {highest}")
    return 0


cdef int _check_entry(Module module, entry) except -1:
    signature = module.signatures.get(entry)
    if signature is None:
        there = ", ".join(module.exports[:10]) or "none"
        raise ModuleInvalid(f"the module exports no function {entry!r}; exported: {there}")
    if signature != "() -> ()":
        raise ModuleInvalid(f"function {entry!r} is {signature}; an entry is () -> ()")
    return 0


cdef str _mib(size):
    return f"{size / (1 << 20):g} MiB"


cdef int check_limits(Module module, memory_bytes_max) except -1:
    if module.memory_min_bytes > memory_bytes_max:
        raise ModuleLimit(
            f"the module's memory begins with {_mib(module.memory_min_bytes)}, "
            f"the limit is {_mib(memory_bytes_max)}: raise it, or build the module with less")
    return 0


cdef tuple fill_input(guest_t *guest, Module module, str entry, args, env, bytes stdin):
    """Module and input of a record; gives what the record borrows and must be kept."""
    cdef bytes name = entry.encode()
    argv, argc = _strings(args, "argument")
    for key in env or ():
        if not key or "=" in key:
            raise InvalidArgument(f"variable name {key!r}: expected one or more characters, no '='")
    environ, envc = _strings(
        [f"{key}={value}" for key, value in env.items()] if env else (), "variable")
    guest.engine, guest.pre = module.native_engine, module.pre
    guest.module, guest.shim = module.native, module.shim
    guest.entry, guest.entry_size = name, len(name)
    guest.args, guest.args_size, guest.argc = <bytes>argv, len(argv), argc
    guest.env, guest.env_size, guest.envc = <bytes>environ, len(environ), envc
    guest.stdin_data, guest.stdin_size = stdin, len(stdin)
    return name, argv, environ, stdin


cdef void fill_limits(
    guest_t *guest, int64_t memory_bytes_max, int64_t output_bytes_max, int64_t log_bytes_max,
    bint log_stdout
) noexcept:
    guest.memory_bytes_max, guest.table_elements_max = memory_bytes_max, TABLE_ELEMENTS_MAX
    guest.output_bytes_max, guest.log_bytes_max = output_bytes_max, log_bytes_max
    guest.log_lines_max, guest.log_stdout = LOG_LINES, log_stdout


cdef class Batch:
    """What became of `Executor.run_many`: counts, and each run's cause, exit code and time."""

    def __cinit__(self):
        if not _making:
            raise TypeError("Batch objects are made by Executor.run_many")

    def __dealloc__(self):
        if self.native != NULL:
            batch_release(self.native)

    cdef int run_all(self, Executor executor) except -1:
        """Waits until all have ended; a signal's exception ends them first."""
        cdef int64_t began_ns = monotonic_ns()
        if not batch_start(self.native):
            raise executor.refusal()
        try:
            while load64(&self.native.ended) < self.native.count:
                with nogil:
                    self.await_events()
                PyErr_CheckSignals()
        except BaseException:
            with nogil:
                batch_doom(self.native, CAUSE_CANCELLED)
                while load64(&self.native.ended) < self.native.count:
                    self.await_events()
            raise
        self.duration_ns = monotonic_ns() - began_ns
        return 0

    cdef void await_events(self) noexcept nogil:
        cdef int32_t seen = load32(&self.native.events)
        if load64(&self.native.ended) < self.native.count:
            futex_wait(&self.native.events, seen, WAIT_SLICE_NS)

    def __len__(self):
        return self.native.count

    @property
    def counts(self):
        """How many runs ended by each cause: {"exit": 998, "trap": 2}."""
        found = {}
        cdef int64_t number
        for number in range(self.native.count):
            cause = cause_name(self.native.causes[number])
            found[cause] = found.get(cause, 0) + 1
        return found

    @property
    def completed(self):
        """How many exited with code 0."""
        cdef int64_t number, completed = 0
        for number in range(self.native.count):
            completed += (self.native.causes[number] == CAUSE_EXIT
                          and self.native.exit_codes[number] == 0)
        return completed

    @property
    def failed(self):
        """How many did not complete."""
        return self.native.count - self.completed

    @property
    def exit_codes(self):
        """Each run's exit code; -1 where it did not exit by itself."""
        return [self.native.exit_codes[number] for number in range(self.native.count)]

    @property
    def durations_ns(self):
        """Each run's time from its start to its end."""
        return [self.native.durations_ns[number] for number in range(self.native.count)]


@cython.no_gc_clear
cdef class Executor:
    """`workers` native threads (0: one a core); at most `guests_max` live guests."""

    def __cinit__(self, *, workers=0, guests_max=1000, epoch_tick_ms=10, handlers=None,
                  handler_failed=None):
        import os

        _check_range("workers", workers, 0, WORKERS_MAX)
        _check_range("guests_max", guests_max, 1, 24_000)
        _check_range("epoch_tick_ms", epoch_tick_ms, 1, 1000)
        workers = workers or min(len(os.sched_getaffinity(0)), WORKERS_MAX)
        self.native = executor_new(workers, guests_max, epoch_tick_ms * 1000000)
        if self.native == NULL:
            raise MemoryError("no memory for the executor's queues")
        self.hubs, self.engines = {}, set()
        if handlers is not None or handler_failed is not None:
            self.serve(handlers or {}, failed=handler_failed)

    def __dealloc__(self):
        if self.native == NULL or self.native.generation != engineapi.generation():
            return
        with nogil:
            executor_close(self.native, 0)
        if self.door is not None:
            self.door.shut(False)
        executor_release(self.native)

    def serve(self, handlers, *, failed=None):
        """Handlers of the calls that Python answers; see executor.pyi."""
        if self.door is None:
            self.door = Door()
            executor_retain(self.native)
            self.door.executor = self.native
        if failed is not None:
            self.door.failed = failed
        self.door.serve(handlers)

    cdef int check_may_block(self, Module module) except -1:
        """A thread whose loop answers the guests' calls must not stand still for a guest."""
        if module.posted and self.door is not None and self.door.serves_here():
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

    cdef int adopt(self, Module module) except -1:
        if self.native.generation != engineapi.generation():
            raise NodeClosed("this executor was made before a fork: make one in the child")
        if not executor_knows(self.native, module.native_engine):
            raise InvalidArgument(f"an executor runs modules of at most {ENGINES_MAX} engines")
        self.engines.add(module.engine)
        return 0

    def start(self, Module module not None, *, str entry="_start", args=(), env=None,
              bytes stdin=b"", timeout_ns=60_000_000_000, memory_bytes_max=64 << 20,
              output_bytes_max=16 << 20, log_bytes_max=10 << 20, log_lines_max=LOG_LINES,
              bint log_stdout=True, bint inline=False):
        """Starts one fresh instance of `module`; see executor.pyi."""
        _check_options(timeout_ns, memory_bytes_max, output_bytes_max, log_bytes_max)
        _check_entry(module, entry)
        check_limits(module, memory_bytes_max)
        self.adopt(module)
        cdef Run run = new_run()
        run.guest = guest_new()
        if run.guest == NULL:
            raise MemoryError("no memory for a guest record")
        run.executor, run.module, run.reason = self, module, ""
        run.limits = (timeout_ns, output_bytes_max)
        run.kept = fill_input(run.guest, module, entry, args, env, stdin)
        _check_range("log_lines_max", log_lines_max, 0, LOG_LINES_MAX)
        fill_limits(run.guest, memory_bytes_max, output_bytes_max, log_bytes_max, log_stdout)
        run.guest.log_lines_max = log_lines_max
        run.guest.started_ns, run.guest.began_ns = realtime_ns(), monotonic_ns()
        run.guest.deadline_ns = run.guest.began_ns + timeout_ns
        if not module.exports_memory:
            _warn_memory(run.guest)
        if self.door is not None:
            run.guest.post = &self.door.post
        cdef bint taken
        with nogil:
            taken = executor_start(self.native, run.guest, inline)
        if not taken:
            raise self.refusal()
        if module.posted and self.door is not None:
            self.door.ensure_served()
        return run

    def run_many(self, Module module not None, count, *, str entry="_start", args=(), env=None,
                 bytes stdin=b"", timeout_ns=60_000_000_000, memory_bytes_max=64 << 20,
                 output_bytes_max=16 << 20, log_bytes_max=10 << 20):
        """Runs `count` fresh instances natively and waits for all; see executor.pyi."""
        _check_range("count", count, 1, BATCH_MAX)
        _check_options(timeout_ns, memory_bytes_max, output_bytes_max, log_bytes_max)
        _check_entry(module, entry)
        check_limits(module, memory_bytes_max)
        self.adopt(module)
        cdef guest_t *model = guest_new()
        if model == NULL:
            raise MemoryError("no memory for a guest record")
        kept = fill_input(model, module, entry, args, env, stdin)
        fill_limits(model, memory_bytes_max, output_bytes_max, log_bytes_max, False)
        if self.door is not None:
            model.post = &self.door.post
        if module.posted and self.door is not None:
            self.door.ensure_served()
        self.check_may_block(module)
        model.deadline_ns = timeout_ns             # from each run's own start
        cdef Batch batch = _new_batch()
        batch.native = batch_new(self.native, model, count)
        guest_release(model)
        if batch.native == NULL:
            raise MemoryError(f"no memory for the results of {count} runs")
        batch.run_all(self)
        del kept
        return batch

    cdef object refusal(self):
        if load32(&self.native.closing) != 0:
            return NodeClosed("the executor is closed and takes no more guests")
        if load32(&self.native.timekeeper_running) == 0:
            return NodeBusy("the system gives no more threads")
        return NodeBusy(
            f"{self.native.guests_max} guests live already, which is the limit "
            "(executor.max_parked); try again when one has ended")

    def instantiate(self, module, **options):
        """A warm instance of `module`; see instance.pyi for the options."""
        from spear._core.instance import Instance

        return Instance(self, module, **options)

    def stats(self):
        """Counts since the start, and what is live, queued and due now."""
        cdef int index
        polls, stolen, started, ended = 0, 0, 0, 0
        for index in range(self.native.worker_count):
            polls += self.native.workers[index].polls
            stolen += self.native.workers[index].stolen
            started += self.native.workers[index].started
            ended += self.native.workers[index].ended
        return {
            "workers": self.native.worker_count, "guests_max": self.native.guests_max,
            "live": load32(&self.native.live), "started": started, "ended": ended,
            "woken": self.native.woken, "polls": polls, "stolen": stolen,
            "idle_workers": load32(&self.native.idle),
        }

    def close(self, grace_s=0.0):
        """Takes no more; waits up to `grace_s`, then ends what still runs. Idempotent."""
        cdef int64_t grace_ns = <int64_t>(min(max(grace_s, 0.0), 1e6) * 1e9)
        if self.native.generation != engineapi.generation():
            return
        with nogil:
            executor_close(self.native, grace_ns)
        if self.door is not None:
            self.door.shut(True)
        while self.hubs:
            self.hubs.popitem()[1].close()


cdef void _warn_memory(guest_t *guest) noexcept:
    text = b"the module exports no 'memory': hostcalls that pass pointers answer -EFAULT"
    guest_log(guest, LEVEL_WARN, STREAM_LOG, text, len(text))

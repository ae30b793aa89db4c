"""Runs guests on fibers over native worker threads: the Python face of the scheduler.

Rule: decides nothing; it checks, fills guest records and starts them. With a seed the guests live
in a deterministic world (stepper.pyx) instead of real time and threads.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc

from spear._core cimport engineapi
from spear._core.batches cimport Batch, new_batch
from spear._core.door cimport Door
from spear._core.engine cimport Module
from spear._core.engineapi cimport *
from spear._core.filetable cimport DESCRIPTORS_MAX, file_table_of
from spear._core.filling cimport *
from spear._core.guest cimport *
from spear._core.outcome cimport cause_name
from spear._core.queues cimport run_queue_size
from spear._core.run cimport ExecutorOwner, Run, new_run
from spear._core.scheduler cimport *
from spear._core.states cimport *
from spear._core.stepper cimport world_step
from spear._core.sync cimport *
from spear._core.values cimport Signature, signature_of
from spear._core.world cimport *

from spear._core.trace import Step
from spear.errors import InvalidArgument, ModuleInvalid, NodeBusy, NodeClosed

BATCH_MAX = 100_000_000
STRATEGIES = ("round_robin", "priority")


cdef class Launch:
    """A start that is made often: all but its input, id, time and priority is settled; see
    `Executor.prepare`. It keeps no module, and refuses any but the one it was made for."""

    def __init__(self):
        raise TypeError("Launch objects are made by Executor.prepare")

    def __dealloc__(self):
        if self.model != NULL:
            guest_release(self.model)

    def fits(self, Executor executor, Module module not None):
        """Whether it was made by this executor for this module."""
        return self.executor is executor and self.number == module.number

    def start(self, Module module not None, bytes stdin not None, str execution_id not None,
              timeout_ns, priority, bint inline, context=None):
        """Starts one more; see executor.pyi."""
        if self.number != module.number:
            raise InvalidArgument("this start was prepared for another module")
        return self.begin(module, stdin, execution_id, timeout_ns, priority, inline, context)

    cdef Run begin(
        self, Module module, bytes stdin, str execution_id, timeout_ns, priority, bint inline,
        object context
    ):
        self.executor.check_process()
        check_timeout(timeout_ns)
        check_range("priority", priority, 0, 255)
        cdef guest_t *guest = guest_like(self.model)
        if guest == NULL:
            raise MemoryError("no memory for a guest record")
        try:
            kept = (*self.kept, stdin)
            if execution_id:
                kept += fill_id(guest, execution_id)
            guest.files = file_table_of(self.dirs, guest.descriptors_max)
            if self.signature is not None:
                fill_values(guest, self.signature, self.call_args)
        except BaseException:
            guest_release(guest)
            raise
        guest.stdin_data, guest.stdin_size = stdin, len(stdin)
        guest.fuel_left, guest.priority = guest.fuel_max, priority
        self.executor.fill_times(guest, timeout_ns)
        return self.executor.launch(
            guest, module, self.signature, kept, (timeout_ns, self.output_bytes_max, self.fuel),
            inline, context)


@cython.no_gc_clear
cdef class Executor(ExecutorOwner):
    """`workers` native threads (0: one a core); at most `guests_max` live guests."""

    def __cinit__(self, *, workers=0, guests_max=1000, epoch_tick_ms=10, seed=None,
                  str strategy="round_robin", handlers=None, handler_failed=None):
        import os

        check_range("workers", workers, 0, WORKERS_MAX)
        check_range("guests_max", guests_max, 1, 24_000)
        check_range("epoch_tick_ms", epoch_tick_ms, 1, 1000)
        if strategy not in STRATEGIES:
            raise InvalidArgument(f"strategy={strategy!r}: expected one of {', '.join(STRATEGIES)}")
        cdef world_t *world = NULL
        if seed is not None:
            check_range("seed", seed, 0, (1 << 64) - 1)
            world = world_new(seed)
            workers = 1
        elif strategy != STRATEGIES[0]:
            raise InvalidArgument("a strategy is of a deterministic executor, which has a seed")
        self.by_priority = seed is None or strategy == "priority"
        workers = workers or min(len(os.sched_getaffinity(0)), WORKERS_MAX)
        self.native = executor_new(workers, guests_max, epoch_tick_ms * 1000000, world)
        if self.native == NULL or (seed is not None and world == NULL):
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
        if self.native.world != NULL:
            raise InvalidArgument(
                "a deterministic executor has no handlers: their answers come in real time")
        if self.door is None:
            self.door = Door()
            executor_retain(self.native)
            self.door.executor = self.native
        if failed is not None:
            self.door.failed = failed
        self.door.serve(handlers)

    cdef int check_process(self) except -1:
        """A forked child has none of its parent's threads."""
        if self.native.generation != engineapi.generation():
            raise NodeClosed("this executor was made before a fork: make one in the child")
        return 0

    cdef int adopt(self, Module module) except -1:
        self.check_process()
        if self.native.world != NULL and not module.metered:
            raise InvalidArgument(
                "a deterministic executor counts fuel: load the module with Engine(metered=True)")
        if not executor_knows(self.native, module.native_engine):
            raise InvalidArgument(f"an executor runs modules of at most {ENGINES_MAX} engines")
        self.engines.add(module.engine)
        return 0

    cdef void fill_times(self, guest_t *guest, int64_t timeout_ns) noexcept:
        cdef world_t *world = self.native.world
        if world == NULL:
            fill_times(guest, monotonic_ns(), realtime_ns(), timeout_ns)
        else:
            fill_times(guest, world.now_ns, <int64_t>WALL_BEGIN_S * 1_000_000_000 + world.now_ns,
                       timeout_ns)

    cdef Run launch(
        self, guest_t *guest, Module module, Signature signature, tuple kept, tuple limits,
        bint here, object context
    ):
        cdef Run run = new_run()
        cdef bint taken
        if context is not None:        # the run ends its guest before it lets go of this
            guest.start_context, kept = <void *>context, (context, *kept)
        run.guest, run.executor, run.module, run.signature = guest, self, module, signature
        run.kept, run.limits, run.reason = kept, limits, ""
        guest.world = self.native.world
        if not module.exports_memory:
            _warn_memory(guest)
        if not self.by_priority:
            guest.priority = PRIORITY_NORMAL
        if self.door is not None:
            guest.post = &self.door.post
            if self.asks(module):
                self.door.ensure_served()
        with nogil:
            taken = executor_start(self.native, guest, here)
        if not taken:
            raise self.refusal()
        return run

    def start(self, Module module not None, *, bytes stdin=b"", timeout_ns=60_000_000_000,
              priority=PRIORITY_NORMAL, bint inline=False, str execution_id="", context=None,
              **like):
        """Starts one fresh instance of `module`; see executor.pyi."""
        cdef Launch launch = self.prepare(module, **like)
        return launch.begin(module, stdin, execution_id, timeout_ns, priority, inline, context)

    def prepare(self, Module module not None, *, str entry="_start", tuple call_args=(), args=(),
                env=None, memory_bytes_max=64 << 20, output_bytes_max=16 << 20,
                log_bytes_max=10 << 20, log_lines_max=LOG_LINES, bint log_waits=False,
                bint log_stdout=True, fuel=None, dirs=(), descriptors_max=DESCRIPTORS_MAX,
                objects=None, task="", object_grants=()):
        """What many starts of `module` have in common; see executor.pyi."""
        check_sizes(memory_bytes_max, output_bytes_max, log_bytes_max)
        check_range("log_lines_max", log_lines_max, 1 if log_waits else 0, LOG_LINES_MAX)
        check_range("descriptors_max", descriptors_max, 16, 65536)
        cdef Launch made = Launch.__new__(Launch)
        made.signature = _entry_signature(module, entry, call_args)
        check_memory(module, memory_bytes_max)
        if self.native.world != NULL and dirs:
            raise InvalidArgument(
                "a deterministic run sees no directories: files and their times are the machine's")
        if self.native.world != NULL and log_waits:
            raise InvalidArgument(
                "a deterministic run waits for no reader: who waits for it reads between its steps")
        self.adopt(module)
        cdef guest_t *model = guest_new()
        if model == NULL:
            raise MemoryError("no memory for a guest record")
        made.model, made.executor = model, self
        made.number, made.call_args = module.number, call_args
        made.kept = fill_input(model, module, entry, args, env, b"")
        made.kept += fill_objects(model, objects, task, object_grants)
        fill_limits(model, memory_bytes_max, output_bytes_max, log_bytes_max, log_stdout)
        fill_fuel(model, module, fuel)
        model.log_lines_max, model.descriptors_max = log_lines_max, descriptors_max
        model.log_waits = log_waits
        made.output_bytes_max, made.fuel, made.dirs = output_bytes_max, fuel, dirs
        return made

    def run_many(self, Module module not None, count, *, str entry="_start", args=(), env=None,
                 bytes stdin=b"", timeout_ns=60_000_000_000, memory_bytes_max=64 << 20,
                 output_bytes_max=16 << 20, log_bytes_max=10 << 20, fuel=None, objects=None,
                 task="", object_grants=()):
        """Runs `count` fresh instances natively and waits for all; see executor.pyi."""
        check_range("count", count, 1, BATCH_MAX)
        check_timeout(timeout_ns)
        check_sizes(memory_bytes_max, output_bytes_max, log_bytes_max)
        if _entry_signature(module, entry, ()) is not None:
            raise ModuleInvalid(f"function {entry!r} gives something: a batch keeps no values")
        check_memory(module, memory_bytes_max)
        if self.native.world != NULL:
            raise InvalidArgument("a deterministic executor runs guests one by one: use start")
        self.adopt(module)
        cdef guest_t *model = guest_new()
        if model == NULL:
            raise MemoryError("no memory for a guest record")
        cdef Batch batch
        try:
            kept = fill_input(model, module, entry, args, env, stdin)
            kept += fill_objects(model, objects, task, object_grants)
            fill_limits(model, memory_bytes_max, output_bytes_max, log_bytes_max, False)
            fill_fuel(model, module, fuel)
            model.deadline_ns = timeout_ns         # from each run's own start
            if self.door is not None:
                model.post = &self.door.post
            batch = new_batch(self.native, model, count)
        finally:
            guest_release(model)
        if self.asks(module):
            self.door.ensure_served()
        self.check_may_block(module)
        if not executor_watch(self.native) or not batch.run_all():
            raise self.refusal()
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
        """A warm instance of `module`; see Instance."""
        from spear._core.instance import Instance

        return Instance(self, module, **options)

    # ---- a deterministic world

    cdef world_t *own_world(self) except NULL:
        if self.native.world == NULL:
            raise InvalidArgument("the executor lives in real time; with a seed it has steps")
        return self.native.world

    @property
    def digest(self):
        """Of all steps so far."""
        return self.own_world().digest

    @property
    def step_count(self):
        return self.own_world().steps

    @property
    def diverged(self):
        """The number of the first step that was not the expected one; 0: none."""
        return self.own_world().diverged

    def record_steps(self):
        """From now on each step is kept until it is taken."""
        self.own_world().recording = True

    def take_steps(self):
        """Takes the steps recorded since the last call, oldest first."""
        cdef world_t *world = self.own_world()
        cdef step_t *records
        cdef size_t at, count
        with nogil:
            pthread_mutex_lock(&world.lock)
            records, count = world.records, world.record_count
            world.records, world.record_count, world.record_room = NULL, 0, 0
            pthread_mutex_unlock(&world.lock)
        try:
            if world.lost:
                raise MemoryError(f"{world.lost} steps could not be recorded: no memory")
            return [
                Step(records[at].number, records[at].kind, records[at].guest, records[at].now_ns,
                     records[at].fuel, records[at].detail, records[at].digest)
                for at in range(count)]
        finally:
            free(records)

    def expect_steps(self, digests):
        """The digests that the steps from the first on must have; where one differs, all guests
        are ended and `diverged` says which."""
        cdef world_t *world = self.own_world()
        cdef uint64_t *expected = NULL
        cdef size_t at, count = len(digests)
        if world.steps or world.expected != NULL:
            raise InvalidArgument("what is expected is said once, before the first step")
        expected = <uint64_t *>malloc((count + 1) * sizeof(uint64_t))
        if expected == NULL:
            raise MemoryError(f"no memory for {count} digests")
        try:
            for at in range(count):
                expected[at] = digests[at]
        except BaseException:
            free(expected)
            raise
        world.expected, world.expected_count = expected, count

    def stats(self):
        """Counts since the start, and what is there now; see executor.pyi."""
        cdef tally_t tally
        cdef int index, cause
        cdef int64_t polls = 0, stolen = 0, started = 0, ended = 0, queued = 0, busy = 0
        cdef worker_t *worker
        for cause in range(CAUSES):
            tally.causes[cause] = 0
        tally.slices = tally.parks = tally.cpu_ns = 0
        for index in range(self.native.worker_count):
            worker = &self.native.workers[index]
            pthread_mutex_lock(&worker.lock)
            started, ended = started + worker.started, ended + worker.ended
            for cause in range(CAUSES):
                tally.causes[cause] += worker.tally.causes[cause]
            tally.slices += worker.tally.slices
            tally.parks += worker.tally.parks
            tally.cpu_ns += worker.tally.cpu_ns
            pthread_mutex_unlock(&worker.lock)
            polls, stolen = polls + worker.polls, stolen + worker.stolen
            queued += run_queue_size(worker.queue)
            busy += load32(&worker.busy)
        live = load32(&self.native.live)
        return {
            "workers": self.native.worker_count, "guests_max": self.native.guests_max,
            "live": live, "queued": queued, "started": started, "ended": ended,
            **{f"ended_{cause_name(cause)}": tally.causes[cause] for cause in range(1, CAUSES)},
            "woken": self.native.woken, "clock_turns": self.native.clock_turns,
            "polls": polls, "stolen": stolen,
            "slices": tally.slices, "parks": tally.parks, "cpu_ns": tally.cpu_ns,
            "busy_workers": busy, "idle_workers": load32(&self.native.idle),
        }

    def close(self, grace_s=0.0):
        """Takes no more; waits up to `grace_s`, then ends what still runs. Idempotent."""
        cdef int64_t grace_ns = <int64_t>(min(max(grace_s, 0.0), 1e6) * 1e9)
        if self.native.generation != engineapi.generation():
            return
        with nogil:
            if self.native.world != NULL:
                _step_all(self.native, grace_ns)
            executor_close(self.native, grace_ns)
        if self.door is not None:
            self.door.shut(True)
        while self.hubs:
            self.hubs.popitem()[1].close()


cdef Signature _entry_signature(Module module, str entry, tuple call_args):
    """None for a function that takes and gives nothing."""
    cdef str text = exported(module, entry)
    cdef Signature signature
    if text == "() -> ()" and not call_args:
        return None
    signature = signature_of(text, entry)
    if entry == "_start" or (signature.param_count > 0 and not call_args):
        raise ModuleInvalid(
            f"function {entry!r} is {text}; an entry is () -> (), or call_args gives its arguments")
    signature.check(entry, call_args)
    return signature


cdef void _step_all(executor_t *executor, int64_t grace_ns) noexcept nogil:
    """A world goes on for as long as it is given, since nobody else steps it."""
    cdef int64_t until_ns = monotonic_ns() + grace_ns
    watch_world(executor, True)
    while load32(&executor.live) > 0 and monotonic_ns() < until_ns and world_step(executor):
        pass
    watch_world(executor, False)


cdef void _warn_memory(guest_t *guest) noexcept:
    text = b"the module exports no 'memory': hostcalls that pass pointers answer -EFAULT"
    guest_log(guest, LEVEL_WARN, STREAM_LOG, text, len(text))

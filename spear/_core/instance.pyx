"""Warm instances: made once, their exported functions called often.

Rule: a call is made in place on the caller's thread where the module imports nothing which may
wait, else, or when it is started, on a fiber as a run of its own that borrows the store. Types are
checked once a function, values at each call. One call at a time; after one that did not return the
memory may be half written, so the instance is spent. Where isolation is `fresh` nothing is kept:
each call is a run of a fresh instance.
"""

cimport cython
from libc.stdint cimport INT64_MAX
from libc.string cimport memset

from spear._core cimport engineapi
from spear._core.engine cimport Module
from spear._core.engineapi cimport *
from spear._core.execution cimport execution_empty, execution_end, execution_free
from spear._core.executor cimport Executor
from spear._core.filling cimport *
from spear._core.guest cimport *
from spear._core.outcome cimport outcome_of
from spear._core.run cimport Run, new_run
from spear._core.scheduler cimport executor_enter, executor_leave
from spear._core.sync cimport *
from spear._core.values cimport *

from spear.errors import GuestTrap, InvalidArgument

wasmtime_bind(engineapi.functions())

ISOLATIONS = ("shared", "fresh")


@cython.no_gc_clear
cdef class Instance:
    """A warm instance of a module; see instance.pyi."""

    def __cinit__(self):
        self.spent = "it was not made"

    def __init__(self, Executor executor not None, Module module not None, *,
                 str isolation="shared", args=(), env=None, timeout_ns=60_000_000_000,
                 memory_bytes_max=64 << 20, output_bytes_max=16 << 20, log_bytes_max=10 << 20,
                 fuel=None, objects=None, task="", object_grants=(), context=None,
                 bint log_waits=False):
        if self.executor is not None:
            raise TypeError("an Instance is made once")
        if isolation not in ISOLATIONS:
            raise InvalidArgument(
                f"isolation={isolation!r}: expected one of {', '.join(ISOLATIONS)}")
        check_timeout(timeout_ns)
        check_sizes(memory_bytes_max, output_bytes_max, log_bytes_max)
        check_memory(module, memory_bytes_max)
        if executor.native.world != NULL:
            raise InvalidArgument("a deterministic executor has no warm instances: use start")
        executor.adopt(module)
        self.executor, self.module = executor, module
        self.args, self.env, self.fuel = tuple(args), dict(env or {}), fuel
        self.objects, self.context = (objects, task, tuple(object_grants)), context
        self.timeout_ns, self.memory_bytes_max = timeout_ns, memory_bytes_max
        self.output_bytes_max, self.log_bytes_max = output_bytes_max, log_bytes_max
        self.log_waits = log_waits
        self.limits = (timeout_ns, output_bytes_max, fuel)
        if isolation == "shared":
            self._instantiate()
        self.spent = ""

    def __dealloc__(self):
        if self.guest != NULL and self.module.generation == engineapi.generation():
            execution_free(self.guest)
            guest_release(self.guest)

    cdef int _instantiate(self) except -1:
        """A run without an entry, whose store stays."""
        cdef guest_t *guest = guest_new()
        if guest == NULL:
            raise MemoryError("no memory for a guest record")
        self.guest = guest
        guest.keeps = True
        self.kept = fill_input(guest, self.module, "", self.args, self.env, b"")
        self.kept += self.lend(guest)
        guest.entry, guest.entry_size = NULL, 0
        self._fill(guest)
        fill_times(guest, monotonic_ns(), realtime_ns(), self.timeout_ns)
        guest_retain(guest)            # the run's
        run = self.executor.launch(
            guest, self.module, None, self.kept, self.limits, True, self.context)
        run.wait()
        if guest.store == NULL:
            raise GuestTrap(run.outcome)
        guest.executor = NULL          # that run is over: a call in place is no execution
        guest.kill = CAUSE_NONE        # asked for too late to end it
        return 0

    cdef int _fill(self, guest_t *guest) except -1:
        """The limits of each call, and of what initializes it."""
        fill_limits(
            guest, self.memory_bytes_max, self.output_bytes_max, self.log_bytes_max, True)
        fill_fuel(guest, self.module, self.fuel)
        return 0

    cdef tuple lend(self, guest_t *guest):
        store, task, grants = self.objects
        return fill_objects(guest, store, task, grants)

    cdef void _arm(self) noexcept nogil:
        """The deadline of what follows, and its limits; in place nothing yields."""
        cdef guest_t *guest = self.guest
        cdef bint logged = guest.log_lines > guest.log_lines_before or guest.log_truncated
        if logged or guest.output.size > 0:
            pthread_mutex_lock(&guest.lock)
            guest.log_bytes, guest.log_truncated = 0, False
            guest.log_lines_before = guest.log_lines
            if guest.output_read == guest.output.size:
                guest.output_read = guest.output.size = 0
            pthread_mutex_unlock(&guest.lock)
        guest.ended_ns = 0
        guest.began_ns = monotonic_ns()
        guest.deadline_ns = INT64_MAX
        if self.timeout_ns < INT64_MAX - guest.began_ns:
            guest.deadline_ns = guest.began_ns + self.timeout_ns
        guest.slice_until_ns = INT64_MAX
        wasmtime_context_set_epoch_deadline(guest.context, 1)
        if guest.metered:
            guest.fuel_left, guest.charged = guest.fuel_max, 0
            wasmtime_context_set_fuel(guest.context, guest.fuel_max)

    cdef int fail(self) except -1:
        """Settles how a call in place ended and raises that."""
        execution_end(self.guest, monotonic_ns())
        outcome = outcome_of(self.guest, "", self.limits)
        self.spent = outcome.message or "it has exited"
        raise GuestTrap(outcome)

    cdef int enter(self) except -1:
        """Before guest code runs on this thread; executor_leave follows."""
        if stack_left() < STACK_BYTES_MIN:
            raise InvalidArgument(
                f"a warm call needs {STACK_BYTES_MIN >> 10} KiB of stack, this thread has "
                f"{stack_left() >> 10} KiB left: call from a thread with a larger one")
        if not executor_enter(self.executor.native):
            raise self.executor.refusal()
        return 0

    cdef int check_usable(self) except -1:
        if not self.spent and self.guest != NULL and self.guest.store == NULL:
            self.spent = "a call into it did not return"
        if self.spent:
            raise InvalidArgument(f"the instance is spent: {self.spent}; make another")
        return 0

    cdef int hold(self) except -1:
        """A store is one call's at a time."""
        if self.guest != NULL and not cas32(&self.guest.lent, 0, 1):
            raise RuntimeError("another call into this instance is under way")
        return 0

    cdef void let_go(self) noexcept nogil:
        if self.guest != NULL:
            store32(&self.guest.lent, 0)

    cdef Run launch(
        self, str name, Signature signature, tuple call_args, bytes stdin, timeout_ns, bint here,
        object context
    ):
        cdef guest_t *guest = guest_new()
        if guest == NULL:
            raise MemoryError("no memory for a guest record")
        try:
            kept = fill_input(guest, self.module, name, self.args, self.env, stdin)
            kept += self.lend(guest)
            self._fill(guest)
            guest.log_waits = self.log_waits
            fill_values(guest, signature, call_args)
            self.hold()
        except BaseException:
            guest_release(guest)
            raise
        try:
            self.check_usable()
        except BaseException:
            self.let_go()
            guest_release(guest)
            raise
        fill_times(guest, monotonic_ns(), realtime_ns(), timeout_ns)
        if self.guest != NULL:         # from here on the run's end gives the store back
            guest_retain(self.guest)
            guest.warm, guest.initializes = self.guest, False
        limits = (timeout_ns, self.output_bytes_max, self.fuel)
        try:
            return self.executor.launch(
                guest, self.module, signature, (self, *kept), limits, here, context)
        except BaseException:
            self.let_go()              # it was refused: no run ends
            raise

    def function(self, str name not None):
        """An exported function; its type is checked here, once."""
        self.check_usable()
        cdef Signature signature = signature_of(exported(self.module, name), name)
        cdef wasmtime_extern_t item
        cdef bytes encoded = name.encode()
        cdef Function function = _new_function()
        self.hold()
        try:
            self.check_usable()
            if self.guest != NULL:
                wasmtime_instance_export_get(
                    self.guest.context, &self.guest.instance, encoded, len(encoded), &item)
                function.func = item.of.func
        finally:
            self.let_go()
        function.instance, function.name, function.types = self, name, signature
        return function

    @property
    def memory_bytes(self):
        """Of linear memory now; 0 where each call has its own."""
        size = 0
        self.hold()
        try:
            self.check_usable()
            if self.guest != NULL and self.guest.has_memory:
                size = wasmtime_memory_data_size(self.guest.context, &self.guest.memory)
        finally:
            self.let_go()
        return size

    def read_logs(self):
        """Takes the lines that calls in place logged since the last call."""
        return [] if self.guest == NULL and not self.spent else self._reader().read_logs()

    def read_output(self):
        """Takes what calls in place wrote to stdout since the last call."""
        return b"" if self.guest == NULL and not self.spent else self._reader().read_output()

    cdef Run _reader(self):
        if self.guest == NULL:
            raise InvalidArgument(f"the instance is spent: {self.spent}")
        cdef Run run = new_run()
        run.guest, run.executor, run.module = self.guest, self.executor, self.module
        guest_retain(self.guest)
        return run

    def close(self):
        """Frees the instance; later calls are refused."""
        self.hold()
        if self.guest != NULL:
            execution_free(self.guest)
        self.spent = self.spent or "it was closed"
        self.let_go()


cdef bint _making = False         # true while this module makes a handle


cdef Function _new_function():
    global _making
    _making = True
    try:
        return Function.__new__(Function)
    finally:
        _making = False


@cython.no_gc_clear
cdef class Function:
    """An exported function of a warm instance; see instance.pyi."""

    def __cinit__(self):
        if not _making:
            raise TypeError("Function objects are made by Instance.function")

    def __repr__(self):
        return f"<Function {self.name} {self.signature}>"

    @property
    def signature(self):
        return self.types.text

    def start(self, *args, bytes stdin=b"", timeout_ns=None, bint inline=False, context=None):
        """Starts the call on a fiber; see instance.pyi."""
        timeout_ns = self.instance.timeout_ns if timeout_ns is None else timeout_ns
        check_timeout(timeout_ns)
        self.types.check(self.name, args)
        context = self.instance.context if context is None else context
        return self.instance.launch(
            self.name, self.types, args, stdin, timeout_ns, inline, context)

    def __call__(self, *args):
        cdef wasmtime_val_raw_t values[VALUES_MAX]
        cdef Instance instance = self.instance
        cdef Signature types = self.types
        cdef int at
        if instance.guest == NULL or instance.module.waiting:
            return self._call_and_wait(args)
        types.check(self.name, args)
        memset(values, 0, types.param_count * sizeof(wasmtime_val_raw_t))
        for at in range(types.param_count):
            store_raw(&values[at], types.params[at], args[at])
        instance.hold()
        try:
            instance.check_usable()
            instance.enter()
            if not _call(instance, &self.func, values, max(types.param_count, types.result_count)):
                instance.fail()
        finally:
            instance.let_go()
        if types.result_count == 1:
            return load_raw(&values[0], types.results[0])
        if types.result_count == 0:
            return None
        return tuple([load_raw(&values[at], types.results[at]) for at in range(types.result_count)])

    def _call_and_wait(self, args):
        cdef Run run = self.start(*args, inline=True)
        run.wait()
        if run.guest.cause != CAUSE_EXIT or run.guest.exited:
            raise GuestTrap(run.outcome)
        return run.value


cdef bint _call(
    Instance instance, wasmtime_func_t *func, wasmtime_val_raw_t *values, size_t count
) noexcept:
    """In place, with the GIL released; False if it trapped, exited or was ended."""
    cdef guest_t *guest = instance.guest
    with nogil:
        instance._arm()
        guest.error = wasmtime_func_call_unchecked(
            guest.context, func, values, count, &guest.trap)
        execution_empty(guest)
        executor_leave(instance.executor.native)
    return guest.error == NULL and guest.trap == NULL

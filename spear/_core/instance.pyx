"""Warm instances: made once, their exported functions called often on the caller's thread.

Rule: a call is made in place, not on a fiber, so only modules that import nothing which may wait
qualify. Types are checked once a function, values at each call. One thread at a time; after a trap
or at a deadline the memory may be half written, so the instance is spent.
"""

cimport cython
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from spear._core cimport engineapi
from spear._core.engine cimport Module
from spear._core.engineapi cimport *
from spear._core.execution cimport execution_end, execution_prepare
from spear._core.executor cimport (
    Executor, Run, check_limits, fill_input, fill_limits, lend_objects, new_run)
from spear._core.guest cimport *
from spear._core.outcome cimport outcome_of
from spear._core.scheduler cimport executor_enter, executor_leave
from spear._core.sync cimport *

from spear.errors import GuestTrap, InvalidArgument, ModuleInvalid, NodeClosed

wasmtime_bind(engineapi.functions())

cdef dict _KINDS = {"i32": WASMTIME_KIND_I32, "i64": WASMTIME_KIND_I64,
                    "f32": WASMTIME_KIND_F32, "f64": WASMTIME_KIND_F64}


@cython.no_gc_clear
cdef class Instance:
    """A warm instance of a module; see instance.pyi."""

    def __cinit__(self):
        self.spent = "it was not made"

    def __init__(self, Executor executor not None, Module module not None, *, args=(), env=None,
                 int64_t timeout_ns=60_000_000_000, int64_t memory_bytes_max=64 << 20,
                 objects=None, task="", object_grants=()):
        if self.guest != NULL:
            raise TypeError("an Instance is made once")
        if module.waiting:
            raise InvalidArgument(
                f"the module imports {', '.join(module.waiting)}, which may wait; a warm instance "
                "is called in place: start it as a run instead")
        if timeout_ns < 1:
            raise InvalidArgument(f"timeout_ns={timeout_ns}: expected 1 or more")
        if load32(&executor.native.closing) != 0:
            raise NodeClosed("the executor is closed and takes no more guests")
        check_limits(module, memory_bytes_max)
        executor.adopt(module)
        self.executor, self.module = executor, module
        self.timeout_ns, self.limits = timeout_ns, (timeout_ns, 16 << 20)
        self.guest = guest_new()
        if self.guest == NULL:
            raise MemoryError("no memory for a guest record")
        self.kept = fill_input(self.guest, module, "_initialize", args, env, b"")
        self.kept += lend_objects(self.guest, objects, task, object_grants)
        fill_limits(self.guest, memory_bytes_max, 16 << 20, 10 << 20, True)
        self.guest.started_ns = realtime_ns()
        self._instantiate()
        self.spent = ""
        if "_initialize" in module.signatures:
            self.function("_initialize")()

    def __dealloc__(self):
        if self.guest != NULL and self.module.generation == engineapi.generation():
            execution_end(self.guest)
            guest_release(self.guest)

    cdef int _instantiate(self) except -1:
        cdef bint made
        self._arm()
        self.enter()
        with nogil:
            made = execution_prepare(self.guest)
            executor_leave(self.executor.native)
        if not made:
            self._fail()
        self.guest.calling = True
        return 0

    cdef void _arm(self) noexcept nogil:
        """The deadline of what follows, and its limits; in place nothing yields."""
        if self.guest.log_bytes > 0 or self.guest.output.size > 0:
            pthread_mutex_lock(&self.guest.lock)
            self.guest.log_bytes, self.guest.log_truncated = 0, False
            if self.guest.output_read == self.guest.output.size:
                self.guest.output_read = self.guest.output.size = 0
            pthread_mutex_unlock(&self.guest.lock)
        self.guest.began_ns = monotonic_ns()
        self.guest.deadline_ns = INT64_MAX
        if self.timeout_ns < INT64_MAX - self.guest.began_ns:
            self.guest.deadline_ns = self.guest.began_ns + self.timeout_ns
        self.guest.slice_until_ns = INT64_MAX

    cdef int _fail(self) except -1:
        """Settles how it ended and raises that."""
        execution_end(self.guest)
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
        if self.spent:
            raise InvalidArgument(f"the instance is spent: {self.spent}; make another")
        return 0

    cdef int hold(self) except -1:
        """A store is one thread's at a time; `busy` is set back to 0 afterwards."""
        if not cas32(&self.busy, 0, 1):
            raise RuntimeError("another thread is calling into this instance")
        return 0

    def function(self, str name not None):
        """An exported function; its type is checked here, once."""
        self.check_usable()
        signature = self.module.signatures.get(name)
        if signature is None:
            there = ", ".join(self.module.exports[:10]) or "none"
            raise ModuleInvalid(f"the module exports no function {name!r}; exported: {there}")
        cdef wasmtime_extern_t item
        cdef bytes encoded = name.encode()
        self.hold()
        wasmtime_instance_export_get(
            self.guest.context, &self.guest.instance, encoded, len(encoded), &item)
        store32(&self.busy, 0)
        cdef Function function = _new_function()
        function.func, function.instance = item.of.func, self
        function.name, function.signature = name, signature
        function.param_count = _read_kinds(function.params, signature.split(") -> ")[0][1:], name)
        function.result_count = _read_kinds(function.results, signature.split(") -> ")[1], name)
        return function

    @property
    def memory_bytes(self):
        self.check_usable()
        self.hold()
        size = 0
        if self.guest.has_memory:
            size = wasmtime_memory_data_size(self.guest.context, &self.guest.memory)
        store32(&self.busy, 0)
        return size

    def read_logs(self):
        """Takes the lines logged since the last call."""
        return self._reader().read_logs()

    def read_output(self):
        """Takes what was written to stdout since the last call."""
        return self._reader().read_output()

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
        if not self.spent:
            execution_end(self.guest)
            self.spent = "it was closed"
        store32(&self.busy, 0)


cdef bint _making = False         # true while this module makes a handle


cdef Function _new_function():
    global _making
    _making = True
    try:
        return Function.__new__(Function)
    finally:
        _making = False


cdef int _read_kinds(uint8_t *kinds, str types, str name) except -1:
    """Codes of the types in "i32, i64", "(i32, i64)" or "()"; how many there are."""
    names = [item for item in types.strip("()").split(", ") if item]
    if len(names) > VALUES_MAX or any(item not in _KINDS for item in names):
        raise InvalidArgument(
            f"function {name!r} has ({types}); served are up to {VALUES_MAX} of "
            f"{', '.join(_KINDS)}")
    for at, item in enumerate(names):
        kinds[at] = _KINDS[item]
    return len(names)


cdef int _store(wasmtime_val_raw_t *value, uint8_t kind, object given) except -1:
    if kind == WASMTIME_KIND_I32:
        if not -(1 << 31) <= given < 1 << 32:
            raise InvalidArgument(f"{given} is no 32-bit integer")
        value.i32 = <int32_t><uint32_t>(given & 0xFFFFFFFF)
    elif kind == WASMTIME_KIND_I64:
        if not -(1 << 63) <= given < 1 << 64:
            raise InvalidArgument(f"{given} is no 64-bit integer")
        value.i64 = <int64_t><uint64_t>(given & 0xFFFFFFFFFFFFFFFF)
    elif kind == WASMTIME_KIND_F32:
        value.f32 = given
    else:
        value.f64 = given
    return 0


cdef object _load(const wasmtime_val_raw_t *value, uint8_t kind):
    if kind == WASMTIME_KIND_I32:
        return value.i32
    if kind == WASMTIME_KIND_I64:
        return value.i64
    return value.f32 if kind == WASMTIME_KIND_F32 else value.f64


@cython.no_gc_clear
cdef class Function:
    """An exported function of a warm instance; see instance.pyi."""

    def __cinit__(self):
        if not _making:
            raise TypeError("Function objects are made by Instance.function")

    def __repr__(self):
        return f"<Function {self.name} {self.signature}>"

    def __call__(self, *args):
        cdef wasmtime_val_raw_t values[VALUES_MAX]
        cdef Instance instance = self.instance
        cdef int at
        if len(args) != self.param_count:
            raise InvalidArgument(
                f"function {self.name!r} {self.signature} was given {len(args)} arguments")
        memset(values, 0, sizeof(values))
        for at in range(self.param_count):
            _store(&values[at], self.params[at], args[at])
        instance.hold()
        try:
            instance.check_usable()
            instance.enter()
            if not _call(instance, &self.func, values, max(self.param_count, self.result_count)):
                instance._fail()
        finally:
            store32(&instance.busy, 0)
        if self.result_count == 1:
            return _load(&values[0], self.results[0])
        if self.result_count == 0:
            return None
        return tuple([_load(&values[at], self.results[at]) for at in range(self.result_count)])


cdef bint _call(
    Instance instance, wasmtime_func_t *func, wasmtime_val_raw_t *values, size_t count
) noexcept:
    """In place, with the GIL released; False if it trapped, exited or was ended."""
    cdef guest_t *guest = instance.guest
    with nogil:
        instance._arm()
        wasmtime_context_set_epoch_deadline(guest.context, 1)
        guest.error = wasmtime_func_call_unchecked(
            guest.context, func, values, count, &guest.trap)
        executor_leave(instance.executor.native)
    return guest.error == NULL and guest.trap == NULL

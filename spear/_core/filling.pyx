"""Fills guest records from what Python gives, once it is checked.

Rule: everything is checked before a record is started, and each refusal names what was given and
what is accepted. A record borrows strings and bytes: what it borrows is given back to be kept.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport INT64_MAX, uint64_t
from libc.stdlib cimport calloc

from spear._core.engine cimport Module
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.objlease cimport Lease
from spear._core.values cimport *

from spear._core.wasmfile import shortened
from spear.errors import InvalidArgument, ModuleInvalid, ModuleLimit

cdef int64_t TIMEOUT_NS_MAX = <int64_t>365 * 24 * 3600 * 1_000_000_000
cdef int64_t MEMORY_BYTES_MAX = <int64_t>4 << 30
cdef int64_t SIZE_BYTES_MAX = <int64_t>1 << 40
cdef int64_t FUEL_MAX = <int64_t>1 << 62

cdef enum:
    TABLE_ELEMENTS_MAX = 100_000


cdef tuple _strings(items, what):
    """(strings one behind another, each with its NUL; how many there are)."""
    parts = []
    for item in items:
        if "\0" in item:
            raise InvalidArgument(f"{what} {item!r} has a NUL character")
        parts.append(item.encode("utf-8", "surrogateescape"))
    return b"\0".join(parts) + b"\0" if parts else b"", len(parts)


cdef int check_range(str name, value, int64_t lowest, uint64_t highest) except -1:
    cdef int beyond = 0
    cdef int64_t found
    if not isinstance(value, int):
        raise InvalidArgument(f"{name}={value!r}: expected an integer")
    found = PyLong_AsLongLongAndOverflow(value, &beyond)
    if beyond > 0 and value <= highest:            # of 64 bits without a sign
        return 0
    if beyond or found < lowest or (found > 0 and <uint64_t>found > highest):
        raise InvalidArgument(f"{name}={value}: expected {lowest} to {highest}")
    return 0


cdef int check_timeout(timeout_ns) except -1:
    return check_range("timeout_ns", timeout_ns, 1, TIMEOUT_NS_MAX)


cdef int check_sizes(memory_bytes_max, output_bytes_max, log_bytes_max) except -1:
    check_range("memory_bytes_max", memory_bytes_max, 65536, MEMORY_BYTES_MAX)
    check_range("output_bytes_max", output_bytes_max, 0, SIZE_BYTES_MAX)
    check_range("log_bytes_max", log_bytes_max, 0, SIZE_BYTES_MAX)
    return 0


cdef str exported(Module module, str name):
    signature = module.signatures.get(name)
    if signature is None:
        there = ", ".join(map(shortened, module.exports[:10])) or "none"
        raise ModuleInvalid(
            f"the module exports no function {shortened(name)!r}; exported: {there}")
    return signature


cdef str _mib(size):
    return f"{size / (1 << 20):g} MiB"


cdef int check_memory(Module module, memory_bytes_max) except -1:
    if module.memory_min_bytes > memory_bytes_max:
        raise ModuleLimit(
            f"the module's memory begins with {_mib(module.memory_min_bytes)}, "
            f"the limit is {_mib(memory_bytes_max)}: raise it, or build the module with less")
    return 0


cdef tuple fill_input(guest_t *guest, Module module, str entry, args, env, bytes stdin):
    cdef bytes name = entry.encode()
    argv, argc = _strings(args, "argument")
    for key in env or ():
        if not key or "=" in key:
            raise InvalidArgument(f"variable name {key!r}: expected one or more characters, no '='")
    environ, envc = _strings(
        [f"{key}={value}" for key, value in env.items()] if env else (), "variable")
    guest.engine, guest.pre, guest.linker = module.native_engine, module.pre, module.linker
    guest.module, guest.shim = module.native, module.shim
    guest.fiber_first = module.fiber_first
    guest.entry, guest.entry_size = name, len(name)
    guest.args, guest.args_size, guest.argc = <bytes>argv, len(argv), argc
    guest.env, guest.env_size, guest.envc = <bytes>environ, len(environ), envc
    guest.stdin_data, guest.stdin_size = stdin, len(stdin)
    guest.initializes = (
        "_initialize" in module.signatures and entry not in ("_start", "_initialize"))
    return name, argv, environ, stdin


cdef void fill_limits(
    guest_t *guest, int64_t memory_bytes_max, int64_t output_bytes_max, int64_t log_bytes_max,
    bint log_stdout
) noexcept:
    guest.memory_bytes_max, guest.table_elements_max = memory_bytes_max, TABLE_ELEMENTS_MAX
    guest.output_bytes_max, guest.log_bytes_max = output_bytes_max, log_bytes_max
    guest.log_lines_max, guest.log_stdout = LOG_LINES, log_stdout


cdef int fill_fuel(guest_t *guest, Module module, fuel) except -1:
    guest.metered = module.metered
    if fuel is not None:
        check_range("fuel", fuel, 1, FUEL_MAX)
        if not module.metered:
            raise InvalidArgument(
                "fuel is counted by modules that Engine(metered=True) loaded; this one is not")
    guest.fuel_max = guest.fuel_left = FUEL_MAX if fuel is None else fuel
    return 0


cdef int fill_values(guest_t *guest, Signature signature, tuple args) except -1:
    cdef int at, count = signature.param_count + signature.result_count
    if count == 0:
        return 0
    guest.values = <wasmtime_val_t *>calloc(count, sizeof(wasmtime_val_t))
    if guest.values == NULL:
        raise MemoryError("no memory for the arguments of a call")
    guest.value_count, guest.result_count = signature.param_count, signature.result_count
    for at in range(signature.param_count):
        store_value(&guest.values[at], signature.params[at], args[at])
    return 0


cdef tuple fill_objects(guest_t *guest, store, task, grants):
    if store is None:
        return ()
    from spear._core.hostobjects import lend

    cdef Lease lease = lend(store, task, grants)
    guest.objects = &lease.native
    return (lease,)


cdef inline bint _is_plain(char letter) noexcept:
    return (c"0" <= letter <= c"9" or c"a" <= letter <= c"z" or c"A" <= letter <= c"Z"
            or letter == c"-")


cdef tuple fill_id(guest_t *guest, str execution_id):
    """It stands in JSON that the guest reads, so nothing in it needs an escape."""
    cdef bytes id = execution_id.encode("utf-8", "surrogateescape")
    cdef const char *text = id
    cdef Py_ssize_t at, size = len(id)
    for at in range(min(size, EXECUTION_ID_MAX + 1)):
        if at == EXECUTION_ID_MAX or not _is_plain(text[at]):
            raise InvalidArgument(f"execution_id={execution_id!r}: expected up to "
                                  f"{EXECUTION_ID_MAX} letters, digits, -")
    guest.execution_id = id
    return (id,)


cdef void fill_times(guest_t *guest, int64_t now_ns, int64_t wall_ns, int64_t timeout_ns) noexcept:
    guest.started_ns, guest.began_ns = wall_ns, now_ns
    guest.deadline_ns = now_ns + timeout_ns if timeout_ns < INT64_MAX - now_ns else INT64_MAX

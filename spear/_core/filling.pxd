"""The contract of filling guest records; see filling.pyx."""

from libc.stdint cimport int64_t, uint64_t

from spear._core.engine cimport Module
from spear._core.guest cimport guest_t
from spear._core.values cimport Signature

# Module and input of a record; gives what the record borrows and must be kept.
cdef tuple fill_input(guest_t *guest, Module module, str entry, args, env, bytes stdin)
cdef void fill_limits(
    guest_t *guest, int64_t memory_bytes_max, int64_t output_bytes_max, int64_t log_bytes_max,
    bint log_stdout) noexcept
# Fuel, where the module's engine counts it.
cdef int fill_fuel(guest_t *guest, Module module, fuel) except -1
# The arguments of a call, and room for its results.
cdef int fill_values(guest_t *guest, Signature signature, tuple args) except -1
# Lets a record reach an object store, unless that is None; gives what must be kept.
cdef tuple fill_objects(guest_t *guest, store, task, grants)
# What the guest is told its execution is called.
cdef tuple fill_id(guest_t *guest, str execution_id)
# When it begins and must have ended, by the clock it lives by.
cdef void fill_times(guest_t *guest, int64_t now_ns, int64_t wall_ns, int64_t timeout_ns) noexcept

cdef int check_range(str name, value, int64_t lowest, uint64_t highest) except -1
cdef int check_timeout(timeout_ns) except -1
cdef int check_sizes(memory_bytes_max, output_bytes_max, log_bytes_max) except -1
cdef int check_memory(Module module, memory_bytes_max) except -1
# The signature of an exported function; ModuleInvalid where there is none of that name.
cdef str exported(Module module, str name)

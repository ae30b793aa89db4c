"""How one call of a guest's tool lies in the guest's arena; see toolcalls.pyx."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from spear._core.guest cimport guest_t

cdef struct tool_plan:             # places in the guest's memory
    int32_t args_at
    int32_t args_size              # without the NUL behind them
    int32_t out_at
    int32_t out_max
    int32_t len_at


# Where the parts go. 0, -EFAULT (no such arena) or -ENOSPC (it is too small).
cdef int32_t toolcall_plan(
    tool_plan *plan, int64_t arena_at, int64_t arena_size, int64_t args_size,
    int64_t out_max) noexcept nogil
# Writes the arguments and the room for the output. 0, or -EFAULT where the arena is not inside.
cdef int32_t toolcall_lay(guest_t *guest, const tool_plan *plan, const uint8_t *args) noexcept nogil
# What a tool that returned `status` gave: 0 with its output, which is valid until the guest runs
# again, or the tool's error. -ENOSPC with `*wanted` not above `out_max`: it asks for one more call.
cdef int32_t toolcall_read(
    guest_t *guest, const tool_plan *plan, int32_t status, const uint8_t **output,
    uint32_t *wanted) noexcept nogil

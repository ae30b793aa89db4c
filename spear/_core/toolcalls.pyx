"""How one call of a guest's tool lies in the guest's arena: arguments, room for output, its length.

Rule: decides nothing about tools; it lays a call out and reads what came of it, on the thread that
has the guest, and takes every place anew, since a tool may have grown the memory.
Source: the guest ABI, section 5.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from spear._core.abibits cimport EFAULT, EIO, ENOSPC, abi_span
from spear._core.guest cimport guest_t

cdef enum:
    LENGTH_BYTES = 4
    TAIL_BYTES = 8                 # kept free for the output's length, aligned
    END = 0x7FFFFFFF               # addresses and lengths above are negative to the ABI


cdef inline int64_t _aligned(int64_t size) noexcept nogil:
    return (size + 7) & ~<int64_t>7


cdef int32_t toolcall_plan(
    tool_plan *plan, int64_t arena_at, int64_t arena_size, int64_t args_size, int64_t out_max
) noexcept nogil:
    if arena_at <= 0 or arena_size <= 0 or arena_at > END or arena_size > END - arena_at:
        return -EFAULT
    if args_size > arena_size:
        return -ENOSPC
    cdef int64_t out_offset = _aligned(args_size + 1)
    cdef int64_t out_cap = min(arena_size - out_offset - TAIL_BYTES, out_max)
    if out_cap <= 0 or out_offset + _aligned(out_cap) + LENGTH_BYTES > arena_size:
        return -ENOSPC
    plan.args_at, plan.args_size = <int32_t>arena_at, <int32_t>args_size
    plan.out_at, plan.out_max = <int32_t>(arena_at + out_offset), <int32_t>out_cap
    plan.len_at = <int32_t>(arena_at + out_offset + _aligned(out_cap))
    return 0


cdef int32_t toolcall_lay(
    guest_t *guest, const tool_plan *plan, const uint8_t *args
) noexcept nogil:
    cdef uint8_t *place = abi_span(
        guest, NULL, plan.args_at, plan.len_at - plan.args_at + LENGTH_BYTES)
    if place == NULL:
        return -EFAULT
    if plan.args_size > 0:
        memcpy(place, args, plan.args_size)
    place[plan.args_size] = 0
    memcpy(place + (plan.len_at - plan.args_at), &plan.out_max, LENGTH_BYTES)
    return 0


cdef int32_t toolcall_read(
    guest_t *guest, const tool_plan *plan, int32_t status, const uint8_t **output,
    uint32_t *wanted
) noexcept nogil:
    cdef const uint8_t *length
    output[0], wanted[0] = NULL, 0xFFFFFFFF
    if status != 0 and status != -ENOSPC:
        return status
    length = abi_span(guest, NULL, plan.len_at, LENGTH_BYTES)
    if length == NULL:
        return -EFAULT
    memcpy(wanted, length, LENGTH_BYTES)
    if status != 0:
        return status
    if wanted[0] > <uint32_t>plan.out_max:
        return -EIO
    output[0] = abi_span(guest, NULL, plan.out_at, <int32_t>wanted[0])
    return 0 if output[0] != NULL else -EFAULT


def arena_plan(int64_t arena_at, int64_t arena_size, int64_t args_size, int64_t out_max):
    """(args_ptr, out_ptr, out_cap, out_len_ptr), or the error."""
    cdef tool_plan plan
    cdef int32_t status = toolcall_plan(&plan, arena_at, arena_size, args_size, out_max)
    if status != 0:
        return status
    return plan.args_at, plan.out_at, plan.out_max, plan.len_at

"""One guest's way through the engine: begin, poll, end.

Rule: only the thread that has the guest in state RUNNING calls these; one future at a time; all
that a future refers to lies in the guest record, which outlives it. The epoch callback is where a
running guest notices its deadline, its doom and the end of its slice.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, malloc
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.post cimport requests_leave
from spear._core.shim cimport shim_begin, shim_settle
from spear._core.sync cimport *

wasmtime_bind(engineapi.functions())

cdef enum:
    INSTANCES_MAX = 1              # of a guest without a shim
    TABLES_MAX = 4


cdef wasmtime_error_t *_on_epoch(
    wasmtime_context_t *context, void *data, uint64_t *delta, uint8_t *kind
) noexcept nogil:
    """At each tick of the epoch while the guest runs: end it, let others run, or go on."""
    cdef guest_t *guest = <guest_t *>data
    cdef int64_t now = monotonic_ns()
    delta[0] = 1
    if now >= guest.deadline_ns:
        guest_doom(guest, CAUSE_DEADLINE)
    if load32(&guest.kill) != 0:
        return wasmtime_error_new("ended by the host")
    if now < guest.slice_until_ns:
        kind[0] = WASMTIME_UPDATE_DEADLINE_CONTINUE
    else:
        kind[0] = WASMTIME_UPDATE_DEADLINE_YIELD
    return NULL


cdef bint _begin(guest_t *guest) noexcept nogil:
    """False: it cannot be linked, see trap and error."""
    cdef int32_t shims = guest.shim != NULL
    guest.started = True
    guest.store = wasmtime_store_new(guest.engine, guest, NULL)
    guest.context = wasmtime_store_context(guest.store)
    wasmtime_store_limiter(guest.store, guest.memory_bytes_max, guest.table_elements_max,
                           INSTANCES_MAX + shims, TABLES_MAX + shims, 1)
    wasmtime_store_epoch_deadline_callback(guest.store, _on_epoch, guest, NULL)
    wasmtime_context_set_epoch_deadline(guest.context, 1)
    if shims and not shim_begin(guest):
        return False
    guest.future = wasmtime_instance_pre_instantiate_async(
        guest.own_pre if shims else guest.pre, guest.context, &guest.instance, &guest.trap,
        &guest.error)
    return True


cdef void _drop_future(guest_t *guest) noexcept nogil:
    if guest.future != NULL:
        wasmtime_call_future_delete(guest.future)
        guest.future = NULL


cdef void _find_memory(guest_t *guest) noexcept nogil:
    cdef wasmtime_extern_t item
    if not guest.has_memory and wasmtime_instance_export_get(
            guest.context, &guest.instance, "memory", 6, &item):
        if item.kind == WASMTIME_EXTERN_KIND_MEMORY:
            guest.memory, guest.has_memory = item.of.memory, True


cdef bint _call(guest_t *guest) noexcept nogil:
    """From instantiated to the call of its entry; False if there is no such function."""
    cdef wasmtime_extern_t item
    guest.instantiated = True
    shim_settle(guest)
    _find_memory(guest)
    if not wasmtime_instance_export_get(
            guest.context, &guest.instance, guest.entry, guest.entry_size, &item):
        return False
    guest.func = item.of.func
    guest.calling = True
    guest.future = wasmtime_func_call_async(
        guest.context, &guest.func, NULL, 0, NULL, 0, &guest.trap, &guest.error)
    return True


cdef bint execution_poll(guest_t *guest) noexcept nogil:
    if not guest.started and not _begin(guest):
        return True
    while True:
        if not wasmtime_call_future_poll(guest.future):
            return False
        _drop_future(guest)
        if guest.calling or guest.trap != NULL or guest.error != NULL or not _call(guest):
            return True


cdef bint execution_prepare(guest_t *guest) noexcept nogil:
    _begin(guest)
    while not wasmtime_call_future_poll(guest.future):
        pass
    _drop_future(guest)
    guest.instantiated = guest.trap == NULL and guest.error == NULL
    if guest.instantiated:
        _find_memory(guest)
    return guest.instantiated


# ---- the end

cdef char *_copied(const char *data, size_t size) noexcept nogil:
    cdef char *copy = <char *>malloc(size + 1)
    if copy != NULL:
        memcpy(copy, data, size)
        copy[size] = 0
    return copy


cdef void _keep_frames(guest_t *guest, wasm_frame_vec_t *frames) noexcept nogil:
    cdef uint32_t index, count = <uint32_t>frames.size
    cdef const wasm_byte_vec_t *name
    if count > FRAMES_MAX:
        count = FRAMES_MAX
    if count > 0:
        guest.frames = <trace_frame *>calloc(count, sizeof(trace_frame))
    if guest.frames != NULL:
        for index in range(count):
            guest.frames[index].index = wasm_frame_func_index(frames.data[index])
            guest.frames[index].offset = wasm_frame_module_offset(frames.data[index])
            name = wasmtime_frame_func_name(frames.data[index])
            if name != NULL:
                guest.frames[index].name = _copied(name.data, name.size)
        guest.frame_count = count
    wasm_frame_vec_delete(frames)


cdef void _keep_trap(guest_t *guest) noexcept nogil:
    cdef wasm_frame_vec_t frames
    cdef uint8_t code
    if wasmtime_trap_code(guest.trap, &code):
        guest.trap_code = code
    wasm_trap_trace(guest.trap, &frames)
    _keep_frames(guest, &frames)


cdef void _keep_error(guest_t *guest) noexcept nogil:
    cdef wasm_frame_vec_t frames
    cdef wasm_byte_vec_t text
    wasmtime_error_message(guest.error, &text)
    guest.message = _copied(text.data, text.size)
    wasm_byte_vec_delete(&text)
    wasmtime_error_wasm_trace(guest.error, &frames)
    _keep_frames(guest, &frames)


cdef int32_t _settled_cause(guest_t *guest) noexcept nogil:
    """Why it ended. An exit that was under way counts before a doom that came with it."""
    if guest.exited:
        return CAUSE_EXIT
    cdef int32_t doom = load32(&guest.kill)
    cdef bint finished = guest.calling and guest.trap == NULL and guest.error == NULL
    if doom != 0 and not (finished and guest.future == NULL):
        return doom
    if guest.trap != NULL:
        return CAUSE_TRAP
    if guest.error != NULL:
        return CAUSE_TRAP if guest.instantiated else CAUSE_INSTANTIATE
    return CAUSE_EXIT


cdef void execution_end(guest_t *guest) noexcept nogil:
    if guest.ended_ns != 0:
        return                     # settled already
    guest.cause = _settled_cause(guest)
    if guest.cause == CAUSE_EXIT and not guest.exited:
        guest.exit_code = 0
    if guest.cause != CAUSE_EXIT and guest.trap != NULL:
        _keep_trap(guest)
    elif guest.cause != CAUSE_EXIT and guest.error != NULL:
        _keep_error(guest)
    if guest.trap != NULL:
        wasm_trap_delete(guest.trap)
    if guest.error != NULL:
        wasmtime_error_delete(guest.error)
    guest.trap, guest.error = NULL, NULL
    if guest.future != NULL:
        _drop_future(guest)
    requests_leave(guest)
    shim_settle(guest)
    if guest.store != NULL and guest.has_memory:
        guest.memory_bytes = wasmtime_memory_data_size(guest.context, &guest.memory)
    if guest.store != NULL:
        wasmtime_store_delete(guest.store)
    guest.store, guest.context = NULL, NULL
    guest_flush_lines(guest)
    guest.ended_ns = monotonic_ns()

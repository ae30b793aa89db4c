"""One guest's way through the engine: begin, poll, end.

Rule: only the thread that has the guest in state RUNNING calls these; one future at a time; all
that a future refers to lies in the guest record, which outlives it. The epoch callback is where a
running guest notices its deadline, its doom, the end of its slice and that its log waits.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, malloc
from libc.string cimport memcpy

from spear._core cimport engineapi
from spear._core.channels cimport bell_silence
from spear._core.descriptors cimport fd_table, fd_table_free
from spear._core.engineapi cimport *
from spear._core.filetable cimport file_table_free
from spear._core.guest cimport *
from spear._core.keptbodies cimport kept_free, kept_t
from spear._core.streams cimport streams_end, streams_t
from spear._core.post cimport requests_leave
from spear._core.shim cimport shim_begin, shim_settle
from spear._core.sync cimport *
from spear._core.world cimport SLICE_FUEL

wasmtime_bind(engineapi.functions())

cdef enum:
    INSTANCES_MAX = 1          # of a guest without a shim
    PAUSE_NS = 20000000        # a world's guest lets who steps it look at signals so often
    TRAP_OUT_OF_FUEL = 11      # the engine's code


cdef wasmtime_error_t *_on_epoch(
    wasmtime_context_t *context, void *data, uint64_t *delta, uint8_t *kind
) noexcept nogil:
    """At each tick of the epoch while the guest runs: end it, let others run, or go on."""
    cdef guest_t *guest = <guest_t *>wasmtime_context_get_data(context)
    cdef int64_t now = monotonic_ns()
    delta[0] = 1
    if guest.world == NULL and now >= guest.deadline_ns:
        guest_doom(guest, CAUSE_DEADLINE)
    if load32(&guest.kill) != 0:
        return wasmtime_error_new("ended by the host")
    if guest.world != NULL:                    # whose slices are of fuel; this is a pause in one
        guest.paused = now >= guest.slice_until_ns + PAUSE_NS
    elif guest.log_waits and guest.slice_until_ns != INT64_MAX and guest_log_full(guest):
        guest.parking, guest.wake_ns = True, INT64_MAX
        kind[0] = WASMTIME_UPDATE_DEADLINE_YIELD
        return NULL
    if now < guest.slice_until_ns or (guest.world != NULL and not guest.paused):
        kind[0] = WASMTIME_UPDATE_DEADLINE_CONTINUE
    else:
        kind[0] = WASMTIME_UPDATE_DEADLINE_YIELD
    return NULL


cdef void _make_store(guest_t *guest) noexcept nogil:
    guest.store = wasmtime_store_new(guest.engine, guest, NULL)
    guest.context = wasmtime_store_context(guest.store)
    cdef int32_t shims = guest.shim != NULL
    wasmtime_store_limiter(guest.store, guest.memory_bytes_max, guest.table_elements_max,
                           INSTANCES_MAX + shims, TABLES_MAX + shims, 1)
    wasmtime_store_epoch_deadline_callback(guest.store, _on_epoch, NULL, NULL)


cdef void _arm(guest_t *guest) noexcept nogil:
    """What holds for one run: when to look at the deadline, and its fuel."""
    wasmtime_context_set_epoch_deadline(guest.context, 1)
    if guest.metered:
        guest.fuel_left = guest.fuel_max
        wasmtime_context_set_fuel(guest.context, guest.fuel_max)
        if guest.world != NULL:
            wasmtime_context_fuel_async_yield_interval(guest.context, SLICE_FUEL)


cdef void _borrow_store(guest_t *guest) noexcept nogil:
    """A warm instance's store, from then on this run's."""
    guest.context, guest.instance = guest.warm.context, guest.warm.instance
    guest.memory, guest.has_memory = guest.warm.memory, guest.warm.has_memory
    guest.slots, guest.functions = guest.warm.slots, guest.warm.functions
    guest.has_functions = guest.warm.has_functions
    wasmtime_context_set_data(guest.context, guest)


cdef bint _instantiate(guest_t *guest) noexcept nogil:
    """In place where it runs no code and nothing in it may wait; a world's store may always."""
    cdef const wasmtime_instance_pre_t *pre = guest.pre if guest.shim == NULL else guest.own_pre
    if guest.fiber_first or guest.world != NULL:
        guest.future = wasmtime_instance_pre_instantiate_async(
            pre, guest.context, &guest.instance, &guest.trap, &guest.error)
        return True
    cdef int64_t until_ns = guest.slice_until_ns
    guest.slice_until_ns = INT64_MAX           # nothing yields off a fiber
    guest.error = wasmtime_instance_pre_instantiate(
        pre, guest.context, &guest.instance, &guest.trap)
    guest.slice_until_ns = until_ns
    return guest.error == NULL and guest.trap == NULL and _call_next(guest)


cdef bint _begin(guest_t *guest) noexcept nogil:
    """False if there is nothing to poll: see _call_next."""
    if guest.warm != NULL:
        _borrow_store(guest)
        _arm(guest)
        return _call_next(guest)
    _make_store(guest)
    _arm(guest)
    guest.stage = STAGE_INSTANTIATE
    if guest.shim != NULL and not shim_begin(guest):
        return False
    return _instantiate(guest)


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


cdef bint _call(guest_t *guest, const char *name, size_t size) noexcept nogil:
    """False if there is no such function."""
    cdef wasmtime_extern_t item
    cdef uint32_t args = guest.value_count if guest.stage == STAGE_CALL else 0
    cdef uint32_t results = guest.result_count if guest.stage == STAGE_CALL else 0
    if not wasmtime_instance_export_get(guest.context, &guest.instance, name, size, &item):
        return False
    guest.func = item.of.func
    guest.future = wasmtime_func_call_async(
        guest.context, &guest.func, guest.values, args, guest.values + args, results,
        &guest.trap, &guest.error)
    return True


cdef bint _call_next(guest_t *guest) noexcept nogil:
    """From one stage to the next; False after the last."""
    if guest.stage == STAGE_INSTANTIATE and guest.shim != NULL:
        shim_settle(guest)
        _find_memory(guest)        # the caller of its tools' hostcalls is the shim
    if guest.stage == STAGE_INSTANTIATE and guest.initializes:
        guest.stage = STAGE_INITIALIZE
        return _call(guest, "_initialize", 11)
    if guest.stage == STAGE_CALL:
        return False
    guest.stage = STAGE_CALL
    return guest.entry != NULL and _call(guest, guest.entry, guest.entry_size)


cdef bint execution_poll(guest_t *guest) noexcept nogil:
    cdef bint over = guest.stage == STAGE_NEW and not _begin(guest)
    while not over:
        if not wasmtime_call_future_poll(guest.future):
            break
        _drop_future(guest)
        over = guest.trap != NULL or guest.error != NULL or not _call_next(guest)
    if guest.metered:
        guest_count_fuel(guest)
    return over


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
                guest.frames[index].name = _copied(
                    name.data, name.size if name.size < FRAME_NAME_BYTES_MAX
                    else FRAME_NAME_BYTES_MAX)
        guest.frame_count = count
    wasm_frame_vec_delete(frames)


cdef void _keep_trap(guest_t *guest) noexcept nogil:
    cdef wasm_frame_vec_t frames
    wasm_trap_trace(guest.trap, &frames)
    _keep_frames(guest, &frames)


cdef void _keep_error(guest_t *guest) noexcept nogil:
    cdef size_t kept
    cdef wasm_frame_vec_t frames
    cdef wasm_byte_vec_t text
    wasmtime_error_message(guest.error, &text)
    kept = text.size if text.size < MESSAGE_BYTES_MAX else MESSAGE_BYTES_MAX
    guest.message = _copied(text.data + text.size - kept, kept)
    wasm_byte_vec_delete(&text)
    wasmtime_error_wasm_trace(guest.error, &frames)
    _keep_frames(guest, &frames)


cdef int32_t _settled_cause(guest_t *guest) noexcept nogil:
    """Why it ended. An exit that was under way counts before a doom that came with it."""
    if guest.exited:
        return CAUSE_EXIT
    cdef int32_t doom = load32(&guest.kill)
    cdef bint finished = guest.stage == STAGE_CALL and guest.trap == NULL and guest.error == NULL
    if doom != 0 and not (finished and guest.future == NULL):
        return doom
    if guest.trap != NULL:
        return CAUSE_FUEL if guest.trap_code == TRAP_OUT_OF_FUEL else CAUSE_TRAP
    if guest.error != NULL:
        return CAUSE_TRAP if guest.stage > STAGE_INSTANTIATE else CAUSE_INSTANTIATE
    return CAUSE_EXIT


cdef void execution_empty(guest_t *guest) noexcept nogil:
    if guest.files != NULL:
        file_table_free(guest.files)
        guest.files = NULL
    if guest.fds != NULL:
        fd_table_free(<fd_table *>guest.fds)
        guest.fds = NULL
    if guest.kept != NULL:
        kept_free(<kept_t *>guest.kept)
        guest.kept = NULL


cdef void _end_descriptors(guest_t *guest) noexcept nogil:
    """Nobody wakes it from here on. A hub that is made just now sees `streams_over`."""
    if load_ptr(<void **>&guest.bell) != NULL:
        bell_silence(guest.bell)
    execution_empty(guest)
    swap32(&guest.streams_over, 1)
    cdef streams_t *hub = <streams_t *>load_ptr(<void **>&guest.streams)
    if hub != NULL:
        streams_end(hub)


cdef void _settle(guest_t *guest) noexcept nogil:
    """How it ended, from the trap or error it left, which are freed."""
    cdef uint8_t code
    if guest.trap != NULL and wasmtime_trap_code(guest.trap, &code):
        guest.trap_code = code
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


cdef void execution_free(guest_t *guest) noexcept nogil:
    if guest.store != NULL:
        wasmtime_store_delete(guest.store)
    guest.store, guest.context = NULL, NULL


cdef void _give_back(guest_t *guest, bint whole) noexcept nogil:
    """To the warm instance; one that was entered and did not return is not entered again."""
    cdef guest_t *warm = guest.warm
    if guest.context != NULL and whole:
        wasmtime_context_set_data(guest.context, warm)
    elif guest.context != NULL:
        execution_free(warm)
    guest.context = NULL
    store32(&warm.lent, 0)


cdef void _measure_memory(guest_t *guest) noexcept nogil:
    """What its outcome says of it; a batch tells nothing of its runs' memory."""
    if guest.context == NULL or guest.batch != NULL:
        return
    if guest.stage > STAGE_INSTANTIATE:
        _find_memory(guest)
    if guest.has_memory:
        guest.memory_bytes = wasmtime_memory_data_size(guest.context, &guest.memory)


cdef void execution_end(guest_t *guest, int64_t now) noexcept nogil:
    if guest.ended_ns != 0:
        return                     # settled already
    if guest.metered and guest.context != NULL:
        guest_count_fuel(guest)
    _settle(guest)
    _drop_future(guest)
    if guest.asked != NULL:
        requests_leave(guest)
    if guest.own_pre != NULL:
        shim_settle(guest)
    _measure_memory(guest)
    guest.ended_ns = now if guest.world == NULL else guest_now_ns(guest)
    if guest.warm != NULL:
        _give_back(guest, guest.cause == CAUSE_EXIT and not guest.exited)
    elif not guest.keeps or guest.cause != CAUSE_EXIT or guest.exited:
        execution_free(guest)
    _end_descriptors(guest)
    guest_flush_lines(guest)

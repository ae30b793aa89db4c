"""The shim: how a guest's tools run while the guest sits inside its own send.

Rule: the host never calls a guest from a hostcall, which the engine refuses; a guest that imports a
send is linked to a module of its own (shimwasm.py) that asks `step` what to do and calls the tools
itself. Only such guests pay for it. A tool is copied from the guest's exported table into the
shim's when it is to be called, its type checked; one that is not there is the tool's error, never a
trap. A send begun inside a tool is one more on the same fiber, up to SENDS_MAX.
Source: the guest ABI, sections 5 and 6.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strlen

from spear._core cimport engineapi
from spear._core.abibits cimport EFAULT, EINVAL, EIO, ENOMEM, ENOSPC
from spear._core.engineapi cimport *
from spear._core.guest cimport *
from spear._core.imports cimport posted_row
from spear._core.post cimport *
from spear._core.sync cimport *
from spear._core.toolcalls cimport toolcall_lay, toolcall_plan, toolcall_read

from spear._core.shimwasm import shim_wasm

wasmtime_bind(engineapi.functions())

cdef enum:
    STEP_RESULTS = 5
    TOOL_PARAMS = 4


# ---- once an engine

cdef wasmtime_error_t *_define_step(wasmtime_linker_t *linker, const posted_row *row) noexcept:
    cdef wasm_valtype_vec_t sides[2]
    cdef wasm_valtype_t *types[STEP_RESULTS]
    cdef wasm_functype_t *type
    cdef wasmtime_error_t *error
    cdef size_t count, at
    for count in range(4, 6):
        for at in range(count):
            types[at] = wasm_valtype_new(WASMTIME_KIND_I32)
        wasm_valtype_vec_new(&sides[count - 4], count, types)
    type = wasm_functype_new(&sides[0], &sides[1])
    error = wasmtime_linker_define_async_func(
        linker, "host", 4, "step", 4, type, _step, <void *>row, NULL)
    wasm_functype_delete(type)
    return error


cdef shim_t *shim_new(
    wasm_engine_t *engine, wasmtime_linker_t *linker, const posted_row *row,
    wasmtime_error_t **error
) except? NULL:
    cdef bytes wasm = shim_wasm(SENDS_MAX)
    cdef const uint8_t *data = wasm
    cdef wasmtime_linker_t *own = NULL
    cdef shim_t *shim = <shim_t *>calloc(1, sizeof(shim_t))
    if shim == NULL:
        wasmtime_linker_delete(linker)
        raise MemoryError("no memory for the shim of guests with tools")
    pthread_mutex_init(&shim.lock, NULL)
    shim.linker, shim.row = linker, row
    wasmtime_linker_allow_shadowing(linker, True)
    own = wasmtime_linker_new(engine)
    error[0] = wasmtime_module_new(engine, data, len(wasm), &shim.code)
    if error[0] == NULL:
        error[0] = _define_step(own, row)
    if error[0] == NULL:
        error[0] = wasmtime_linker_instantiate_pre(own, shim.code, &shim.pre)
    wasmtime_linker_delete(own)
    if error[0] != NULL:
        shim_free(shim)
        return NULL
    return shim


cdef void shim_free(shim_t *shim) noexcept:
    if shim.pre != NULL:
        wasmtime_instance_pre_delete(shim.pre)
    if shim.code != NULL:
        wasmtime_module_delete(shim.code)
    wasmtime_linker_delete(shim.linker)
    pthread_mutex_destroy(&shim.lock)
    free(shim)


# ---- once a guest

cdef bint shim_begin(guest_t *guest) noexcept nogil:
    cdef shim_t *shim = <shim_t *>guest.shim
    cdef wasmtime_instance_t made
    cdef wasmtime_extern_t send, slots
    cdef wasmtime_call_future_t *future = wasmtime_instance_pre_instantiate_async(
        shim.pre, guest.context, &made, &guest.trap, &guest.error)
    while not wasmtime_call_future_poll(future):
        pass                               # it has no code that runs, so it never waits
    wasmtime_call_future_delete(future)
    if guest.trap != NULL or guest.error != NULL:
        return False
    wasmtime_instance_export_get(guest.context, &made, "send", 4, &send)
    wasmtime_instance_export_get(guest.context, &made, "slots", 5, &slots)
    guest.slots = slots.of.table
    pthread_mutex_lock(&shim.lock)         # what is linked holds its own copy of the definitions
    guest.error = wasmtime_linker_define(
        shim.linker, guest.context, shim.row.module, strlen(shim.row.module), shim.row.name,
        strlen(shim.row.name), &send)
    if guest.error == NULL:
        guest.error = wasmtime_linker_instantiate_pre(shim.linker, guest.module, &guest.own_pre)
    pthread_mutex_unlock(&shim.lock)
    return guest.error == NULL


cdef void shim_settle(guest_t *guest) noexcept nogil:
    if guest.own_pre != NULL:
        wasmtime_instance_pre_delete(guest.own_pre)
        guest.own_pre = NULL


# ---- tools

cdef bint _exported_table(guest_t *guest, const char *name) noexcept nogil:
    cdef wasmtime_extern_t item
    if not wasmtime_instance_export_get(
            guest.context, &guest.instance, name, strlen(name), &item):
        return False
    if item.kind != WASMTIME_EXTERN_KIND_TABLE:
        return False
    guest.functions, guest.has_functions = item.of.table, True
    return True


cdef bint _find_functions(guest_t *guest) noexcept nogil:
    """Its exported table; a guest that is still being instantiated has none."""
    cdef wasmtime_extern_t item
    cdef char *name
    cdef size_t size, at = 0
    if guest.has_functions:
        return True
    if guest.own_pre != NULL:
        return False
    if _exported_table(guest, "__indirect_function_table") or _exported_table(guest, "table"):
        return True
    while wasmtime_instance_export_nth(guest.context, &guest.instance, at, &name, &size, &item):
        if item.kind == WASMTIME_EXTERN_KIND_TABLE:
            guest.functions, guest.has_functions = item.of.table, True
            return True
        at += 1
    return False


cdef bint _all_i32(const wasm_valtype_vec_t *types, size_t count) noexcept nogil:
    cdef size_t at
    if types.size != count:
        return False
    for at in range(count):
        if wasm_valtype_kind(types.data[at]) != WASMTIME_KIND_I32:
            return False
    return True


cdef bint _is_tool(guest_t *guest, const wasmtime_func_t *func) noexcept nogil:
    cdef wasm_functype_t *type = wasmtime_func_type(guest.context, func)
    cdef bint right = (
        _all_i32(wasm_functype_params(type), TOOL_PARAMS)
        and _all_i32(wasm_functype_results(type), 1))
    wasm_functype_delete(type)
    return right


cdef int32_t _aim(guest_t *guest, int64_t function, int32_t slot) noexcept nogil:
    """Has the shim's slot name function `function` of the guest's table; 0, -EFAULT where no place
    has that number, or -EINVAL."""
    cdef wasmtime_val_t item
    cdef wasmtime_error_t *error
    if function < 0:
        return -EFAULT
    if not _find_functions(guest):
        return -EINVAL
    if not wasmtime_table_get(guest.context, &guest.functions, <uint64_t>function, &item):
        return -EINVAL
    if item.kind != WASMTIME_KIND_FUNCREF:
        wasmtime_val_unroot(&item)
        return -EINVAL
    if item.of.funcref.store_id == 0 or not _is_tool(guest, &item.of.funcref):
        return -EINVAL
    error = wasmtime_table_set(guest.context, &guest.slots, slot, &item)
    if error != NULL:
        wasmtime_error_delete(error)
        return -EINVAL
    return 0


# ---- step: what the shim does next

cdef void _set(
    wasmtime_val_t *results, int32_t op, int32_t a, int32_t b, int32_t c, int32_t d
) noexcept nogil:
    cdef int at
    for at in range(STEP_RESULTS):
        results[at].kind = WASMTIME_KIND_I32
    results[0].of.i32, results[1].of.i32, results[2].of.i32 = op, a, b
    results[3].of.i32, results[4].of.i32 = c, d


cdef void _end_send(guest_t *guest, wasmtime_val_t *results, int32_t status) noexcept nogil:
    _set(results, -1, status, 0, 0, 0)
    guest.sends -= 1
    request_close(guest)


cdef int32_t _begin_tool(
    guest_t *guest, request_t *request, wasmtime_val_t *results
) noexcept nogil:
    """The tool that the answer asks for is called next; or its error."""
    cdef int32_t error = _aim(guest, request.function, guest.sends - 1)
    request.retried = False
    if error == 0:
        error = toolcall_plan(
            &request.plan, request.arena_at, request.arena_size, request.size, request.out_max)
    return error if error != 0 else _call_tool(guest, request, results)


cdef int32_t _call_tool(
    guest_t *guest, request_t *request, wasmtime_val_t *results
) noexcept nogil:
    cdef int32_t error = toolcall_lay(guest, &request.plan, request.data)
    if error == 0:
        _set(results, guest.sends - 1, request.plan.args_at, request.plan.args_size,
             request.plan.out_at, request.plan.len_at)
    return error


cdef bint _end_tool(
    guest_t *guest, request_t *request, int32_t status, wasmtime_val_t *results
) noexcept nogil:
    """What the tool gave goes into the next question; False if it is called once more instead."""
    cdef const uint8_t *output
    cdef uint32_t wanted
    status = toolcall_read(guest, &request.plan, status, &output, &wanted)
    if status == -ENOSPC and not request.retried and wanted <= <uint32_t>request.plan.out_max:
        request.retried = True
        status = _aim(guest, request.function, guest.sends - 1)
        if status == 0:
            status = _call_tool(guest, request, results)
        if status == 0:
            return False
    request.tool_status = status
    if not bytes_replace(&request.output, &request.output_size, output,
                         wanted if status == 0 else 0):
        request.tool_status = -ENOMEM
    return True


cdef bool_t _told(void *env) noexcept nogil:
    """Python's word is there: the send's result, or a tool to call first."""
    cdef request_t *request = <request_t *>env
    cdef guest_t *guest = request.guest
    while load32(&request.turn) == TURN_GUEST:
        if not request.more:
            _end_send(guest, request.results, request_status(guest, request))
            return True
        request.tool_status = _begin_tool(guest, request, request.results)
        if request.tool_status == 0:
            return True
        request.output_size = 0
        if not request_ask(request):
            _end_send(guest, request.results, -ENOMEM)
            return True
    guest.parking = True
    return False


cdef request_t *_begin_send(
    guest_t *guest, wasmtime_caller_t *caller, const posted_row *row, const wasmtime_val_t *args,
    wasmtime_val_t *results
) noexcept nogil:
    cdef int32_t error = -EIO
    cdef request_t *request = NULL
    if guest.sends < SENDS_MAX:
        request = request_begin(guest, caller, row, args, &error)
    if request == NULL:
        _set(results, -1, error, 0, 0, 0)
        return NULL
    guest.sends += 1
    return request


cdef void _step(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap,
    wasmtime_async_continuation_t *continuation
) noexcept nogil:
    """args: fd, flags, how many tools this send has called, what the last of them returned."""
    cdef guest_t *guest = guest_of(caller)
    cdef request_t *request
    guest_go_on(continuation)
    if load32(&guest.kill) != 0:
        trap[0] = guest_stop()
        return
    if args[2].of.i32 == 0:
        request = _begin_send(guest, caller, <const posted_row *>env, args, results)
        if request == NULL:
            return
    else:
        request = <request_t *>guest.asked
        if not _end_tool(guest, request, args[3].of.i32, results):
            return
    request.results = results
    if not request_ask(request):
        _end_send(guest, results, -ENOMEM)
        return
    guest_park(guest, INT64_MAX, _told, continuation)
    continuation.env = request

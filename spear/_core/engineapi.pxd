"""Wasmtime's C API as native modules call it: the Cython view of wasmtime_api.h.

Every function is a pointer in one table that engineapi.pyx fills at import; a module that calls
them says `wasmtime_bind(engineapi.functions())` once, at its own import.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "wasmtime_load.h" nogil:
    ctypedef struct wasm_config_t:
        pass
    ctypedef struct wasm_engine_t:
        pass
    ctypedef struct wasm_valtype_t:
        pass
    ctypedef struct wasm_functype_t:
        pass
    ctypedef struct wasm_memorytype_t:
        pass
    ctypedef struct wasm_trap_t:
        pass
    ctypedef struct wasm_frame_t:
        pass
    ctypedef struct wasmtime_error_t:
        pass
    ctypedef struct wasmtime_module_t:
        pass
    ctypedef struct wasmtime_linker_t:
        pass
    ctypedef struct wasmtime_instance_pre_t:
        pass
    ctypedef struct wasmtime_store_t:
        pass
    ctypedef struct wasmtime_context_t:
        pass
    ctypedef struct wasmtime_caller_t:
        pass
    ctypedef struct wasmtime_call_future_t:
        pass

    ctypedef void (*wasmtime_finalizer_t)(void *) noexcept nogil

    ctypedef struct wasm_byte_vec_t:
        size_t size
        char *data
    ctypedef struct wasm_frame_vec_t:
        size_t size
        wasm_frame_t **data
    ctypedef struct wasm_valtype_vec_t:
        size_t size
        wasm_valtype_t **data

    ctypedef struct wasmtime_instance_t:
        uint64_t store_id
    ctypedef struct wasmtime_func_t:
        uint64_t store_id
    ctypedef struct wasmtime_memory_t:
        uint32_t part_2
    ctypedef struct wasmtime_table_t:
        uint32_t part_2
    ctypedef union wasmtime_extern_union_t:
        wasmtime_func_t func
        wasmtime_table_t table
        wasmtime_memory_t memory
    ctypedef struct wasmtime_extern_t:
        uint8_t kind
        wasmtime_extern_union_t of
    ctypedef union wasmtime_valunion_t:
        int32_t i32
        int64_t i64
        float f32
        double f64
        wasmtime_func_t funcref
    ctypedef struct wasmtime_val_t:
        uint8_t kind
        wasmtime_valunion_t of
    ctypedef union wasmtime_val_raw_t:
        int32_t i32
        int64_t i64
        float f32
        double f64

    const int WASMTIME_EXTERN_KIND_FUNC, WASMTIME_EXTERN_KIND_TABLE, WASMTIME_EXTERN_KIND_MEMORY
    const int WASMTIME_KIND_I32, WASMTIME_KIND_I64, WASMTIME_KIND_F32, WASMTIME_KIND_F64
    const int WASMTIME_KIND_FUNCREF
    const int WASMTIME_UPDATE_DEADLINE_CONTINUE, WASMTIME_UPDATE_DEADLINE_YIELD

    ctypedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(
        void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count
    ) noexcept nogil
    ctypedef bint bool_t "bool"
    ctypedef bool_t (*wasmtime_ready_t)(void *env) noexcept nogil
    ctypedef struct wasmtime_async_continuation_t:
        wasmtime_ready_t callback
        void *env
        wasmtime_finalizer_t finalizer
    ctypedef void (*wasmtime_func_async_callback_t)(
        void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
        wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap_ret,
        wasmtime_async_continuation_t *continuation_ret) noexcept nogil
    ctypedef wasmtime_error_t *(*wasmtime_epoch_callback_t)(
        wasmtime_context_t *context, void *data, uint64_t *delta, uint8_t *kind) noexcept nogil
    ctypedef struct wasmtime_memory_creator_t:
        void *env
    ctypedef struct wasmtime_stack_creator_t:
        void *env

    ctypedef struct wasmtime_functions:
        pass
    const char *wasmtime_functions_load(
        wasmtime_functions *table, const char *path, const char **symbol)
    void wasmtime_bind(const wasmtime_functions *table)

    wasm_config_t *wasm_config_new()
    void wasm_config_delete(wasm_config_t *config)
    void wasmtime_config_epoch_interruption_set(wasm_config_t *config, bint on)
    void wasmtime_config_consume_fuel_set(wasm_config_t *config, bint on)
    void wasmtime_config_max_wasm_stack_set(wasm_config_t *config, size_t bytes)
    void wasmtime_config_async_stack_size_set(wasm_config_t *config, size_t bytes)
    void wasmtime_config_wasm_threads_set(wasm_config_t *config, bint on)
    void wasmtime_config_wasm_multi_memory_set(wasm_config_t *config, bint on)
    void wasmtime_config_wasm_memory64_set(wasm_config_t *config, bint on)
    void wasmtime_config_wasm_gc_set(wasm_config_t *config, bint on)
    void wasmtime_config_wasm_function_references_set(wasm_config_t *config, bint on)
    void wasmtime_config_wasm_exceptions_set(wasm_config_t *config, bint on)
    void wasmtime_config_wasm_relaxed_simd_deterministic_set(wasm_config_t *config, bint on)
    void wasmtime_config_gc_support_set(wasm_config_t *config, bint on)
    void wasmtime_config_parallel_compilation_set(wasm_config_t *config, bint on)
    void wasmtime_config_cranelift_nan_canonicalization_set(wasm_config_t *config, bint on)
    void wasmtime_config_memory_reservation_set(wasm_config_t *config, uint64_t bytes)
    void wasmtime_config_memory_guard_size_set(wasm_config_t *config, uint64_t bytes)
    void wasmtime_config_memory_may_move_set(wasm_config_t *config, bint on)
    void wasmtime_config_memory_init_cow_set(wasm_config_t *config, bint on)
    void wasmtime_config_host_memory_creator_set(wasm_config_t *config, wasmtime_memory_creator_t
            *creator)
    void wasmtime_config_host_stack_creator_set(wasm_config_t *config, wasmtime_stack_creator_t
            *creator)
    wasm_engine_t *wasm_engine_new_with_config(wasm_config_t *config)
    void wasm_engine_delete(wasm_engine_t *engine)
    void wasmtime_engine_increment_epoch(const wasm_engine_t *engine)
    wasm_valtype_t *wasm_valtype_new(uint8_t kind)
    uint8_t wasm_valtype_kind(const wasm_valtype_t *type)
    void wasm_valtype_vec_new(wasm_valtype_vec_t *out, size_t count, wasm_valtype_t **items)
    wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *params, wasm_valtype_vec_t *results)
    void wasm_functype_delete(wasm_functype_t *type)
    const wasm_valtype_vec_t *wasm_functype_params(const wasm_functype_t *type)
    const wasm_valtype_vec_t *wasm_functype_results(const wasm_functype_t *type)
    wasmtime_error_t *wasmtime_error_new(const char *message)
    void wasmtime_error_delete(wasmtime_error_t *error)
    void wasmtime_error_message(const wasmtime_error_t *error, wasm_byte_vec_t *out)
    void wasmtime_error_wasm_trace(const wasmtime_error_t *error, wasm_frame_vec_t *out)
    wasm_trap_t *wasmtime_trap_new(const char *message, size_t length)
    bint wasmtime_trap_code(const wasm_trap_t *trap, uint8_t *code)
    void wasm_trap_message(const wasm_trap_t *trap, wasm_byte_vec_t *out)
    void wasm_trap_trace(const wasm_trap_t *trap, wasm_frame_vec_t *out)
    void wasm_trap_delete(wasm_trap_t *trap)
    uint32_t wasm_frame_func_index(const wasm_frame_t *frame)
    size_t wasm_frame_module_offset(const wasm_frame_t *frame)
    const wasm_byte_vec_t *wasmtime_frame_func_name(const wasm_frame_t *frame)
    void wasm_frame_vec_delete(wasm_frame_vec_t *frames)
    void wasm_byte_vec_delete(wasm_byte_vec_t *bytes)
    wasmtime_error_t *wasmtime_module_new(wasm_engine_t *engine, const uint8_t *wasm, size_t
            length, wasmtime_module_t **ret)
    wasmtime_error_t *wasmtime_module_serialize(const wasmtime_module_t *module, wasm_byte_vec_t
            *ret)
    wasmtime_error_t *wasmtime_module_deserialize(wasm_engine_t *engine, const uint8_t *code,
            size_t length, wasmtime_module_t **ret)
    wasmtime_error_t *wasmtime_module_deserialize_file(wasm_engine_t *engine, const char *path,
            wasmtime_module_t **ret)
    void wasmtime_module_delete(wasmtime_module_t *module)
    wasmtime_linker_t *wasmtime_linker_new(wasm_engine_t *engine)
    void wasmtime_linker_delete(wasmtime_linker_t *linker)
    void wasmtime_linker_allow_shadowing(wasmtime_linker_t *linker, bint allowed)
    wasmtime_error_t *wasmtime_linker_define(wasmtime_linker_t *linker, wasmtime_context_t *context,
            const char *module, size_t module_len, const char *name, size_t name_len, const
            wasmtime_extern_t *item)
    wasmtime_error_t *wasmtime_linker_define_func_unchecked( wasmtime_linker_t *linker, const char
            *module, size_t module_len, const char *name, size_t name_len, const wasm_functype_t
            *type, wasmtime_func_unchecked_callback_t callback, void *env, wasmtime_finalizer_t
            finalizer)
    wasmtime_error_t *wasmtime_linker_define_async_func( wasmtime_linker_t *linker, const char
            *module, size_t module_len, const char *name, size_t name_len, const wasm_functype_t
            *type, wasmtime_func_async_callback_t callback, void *env, wasmtime_finalizer_t
            finalizer)
    bint wasmtime_linker_get(const wasmtime_linker_t *linker, wasmtime_context_t *context, const
            char *module, size_t module_len, const char *name, size_t name_len, wasmtime_extern_t
            *item)
    wasmtime_error_t *wasmtime_linker_instantiate_pre(const wasmtime_linker_t *linker, const
            wasmtime_module_t *module, wasmtime_instance_pre_t **ret)
    void wasmtime_instance_pre_delete(wasmtime_instance_pre_t *pre)
    wasmtime_store_t *wasmtime_store_new(wasm_engine_t *engine, void *data, wasmtime_finalizer_t
            finalizer)
    void wasmtime_store_delete(wasmtime_store_t *store)
    wasmtime_context_t *wasmtime_store_context(wasmtime_store_t *store)
    void wasmtime_store_limiter(wasmtime_store_t *store, int64_t memory_bytes, int64_t
            table_elements, int64_t instances, int64_t tables, int64_t memories)
    void wasmtime_store_epoch_deadline_callback(wasmtime_store_t *store, wasmtime_epoch_callback_t
            callback, void *data, wasmtime_finalizer_t finalizer)
    void wasmtime_context_set_epoch_deadline(wasmtime_context_t *context, uint64_t ticks)
    void *wasmtime_context_get_data(const wasmtime_context_t *context)
    void wasmtime_context_set_data(wasmtime_context_t *context, void *data)
    wasmtime_error_t *wasmtime_context_set_fuel(wasmtime_context_t *context, uint64_t fuel)
    wasmtime_error_t *wasmtime_context_get_fuel(const wasmtime_context_t *context, uint64_t *fuel)
    wasmtime_error_t *wasmtime_context_fuel_async_yield_interval(wasmtime_context_t *context,
            uint64_t interval)
    wasmtime_error_t *wasmtime_instance_pre_instantiate(const wasmtime_instance_pre_t *pre,
            wasmtime_context_t *context, wasmtime_instance_t *instance, wasm_trap_t **trap_ret)
    wasmtime_call_future_t *wasmtime_instance_pre_instantiate_async( const wasmtime_instance_pre_t
            *pre, wasmtime_context_t *context, wasmtime_instance_t *instance, wasm_trap_t
            **trap_ret, wasmtime_error_t **error_ret)
    bint wasmtime_instance_export_get(wasmtime_context_t *context, const wasmtime_instance_t
            *instance, const char *name, size_t name_len, wasmtime_extern_t *item)
    bint wasmtime_instance_export_nth(wasmtime_context_t *context, const wasmtime_instance_t
            *instance, size_t index, char **name, size_t *name_len, wasmtime_extern_t *item)
    wasmtime_error_t *wasmtime_func_call(wasmtime_context_t *context, const wasmtime_func_t *func,
            const wasmtime_val_t *args, size_t nargs, wasmtime_val_t *results, size_t nresults,
            wasm_trap_t **trap_ret)
    wasmtime_error_t *wasmtime_func_call_unchecked(wasmtime_context_t *context, const
            wasmtime_func_t *func, wasmtime_val_raw_t *args_and_results, size_t count, wasm_trap_t
            **trap_ret)
    wasm_functype_t *wasmtime_func_type(const wasmtime_context_t *context, const wasmtime_func_t
            *func)
    wasmtime_call_future_t *wasmtime_func_call_async(wasmtime_context_t *context, const
            wasmtime_func_t *func, const wasmtime_val_t *args, size_t nargs, wasmtime_val_t
            *results, size_t nresults, wasm_trap_t **trap_ret, wasmtime_error_t **error_ret)
    bint wasmtime_call_future_poll(wasmtime_call_future_t *future)
    void wasmtime_call_future_delete(wasmtime_call_future_t *future)
    wasmtime_context_t *wasmtime_caller_context(wasmtime_caller_t *caller)
    bint wasmtime_caller_export_get(wasmtime_caller_t *caller, const char *name, size_t name_len,
            wasmtime_extern_t *item)
    uint8_t *wasmtime_memory_data(wasmtime_context_t *context, const wasmtime_memory_t *memory)
    size_t wasmtime_memory_data_size(const wasmtime_context_t *context, const wasmtime_memory_t
            *memory)
    bint wasmtime_table_get(wasmtime_context_t *context, const wasmtime_table_t *table, uint64_t
            index, wasmtime_val_t *value)
    wasmtime_error_t *wasmtime_table_set(wasmtime_context_t *context, const wasmtime_table_t *table,
            uint64_t index, const wasmtime_val_t *value)
    void wasmtime_val_unroot(wasmtime_val_t *value)


# The resolved table; raises EngineUnavailable where there is no library this build accepts.
cdef const wasmtime_functions *functions() except NULL

# How many forks lie between this process and the first: what was made in another one is not used.
cdef int generation() noexcept nogil

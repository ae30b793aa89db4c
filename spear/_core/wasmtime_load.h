/* Loads Wasmtime's library and resolves every function of wasmtime_api.h, once per process.
 *
 * Rule: the list below names each function declared there, no more and no fewer (a test compares
 * them); a symbol that the library lacks is named in the error.
 */
#ifndef SPEAR_WASMTIME_LOAD_H
#define SPEAR_WASMTIME_LOAD_H
#include <dlfcn.h>
#include "wasmtime_api.h"

#define SPEAR_WASMTIME_FUNCTIONS(X) \
    X(wasm_config_new) \
    X(wasm_config_delete) \
    X(wasmtime_config_epoch_interruption_set) \
    X(wasmtime_config_consume_fuel_set) \
    X(wasmtime_config_max_wasm_stack_set) \
    X(wasmtime_config_async_stack_size_set) \
    X(wasmtime_config_wasm_threads_set) \
    X(wasmtime_config_wasm_multi_memory_set) \
    X(wasmtime_config_wasm_memory64_set) \
    X(wasmtime_config_wasm_gc_set) \
    X(wasmtime_config_wasm_function_references_set) \
    X(wasmtime_config_wasm_exceptions_set) \
    X(wasmtime_config_wasm_relaxed_simd_deterministic_set) \
    X(wasmtime_config_gc_support_set) \
    X(wasmtime_config_parallel_compilation_set) \
    X(wasmtime_config_cranelift_nan_canonicalization_set) \
    X(wasmtime_config_memory_reservation_set) \
    X(wasmtime_config_memory_guard_size_set) \
    X(wasmtime_config_memory_may_move_set) \
    X(wasmtime_config_memory_init_cow_set) \
    X(wasmtime_config_host_memory_creator_set) \
    X(wasmtime_config_host_stack_creator_set) \
    X(wasm_engine_new_with_config) \
    X(wasm_engine_delete) \
    X(wasmtime_engine_increment_epoch) \
    X(wasm_valtype_new) \
    X(wasm_valtype_kind) \
    X(wasm_valtype_vec_new) \
    X(wasm_functype_new) \
    X(wasm_functype_delete) \
    X(wasm_functype_params) \
    X(wasm_functype_results) \
    X(wasmtime_error_new) \
    X(wasmtime_error_delete) \
    X(wasmtime_error_message) \
    X(wasmtime_error_wasm_trace) \
    X(wasmtime_trap_new) \
    X(wasmtime_trap_code) \
    X(wasm_trap_message) \
    X(wasm_trap_trace) \
    X(wasm_trap_delete) \
    X(wasm_frame_func_index) \
    X(wasm_frame_module_offset) \
    X(wasmtime_frame_func_name) \
    X(wasm_frame_vec_delete) \
    X(wasm_byte_vec_delete) \
    X(wasmtime_module_new) \
    X(wasmtime_module_serialize) \
    X(wasmtime_module_deserialize) \
    X(wasmtime_module_deserialize_file) \
    X(wasmtime_module_delete) \
    X(wasmtime_linker_new) \
    X(wasmtime_linker_delete) \
    X(wasmtime_linker_allow_shadowing) \
    X(wasmtime_linker_define) \
    X(wasmtime_linker_define_func_unchecked) \
    X(wasmtime_linker_define_async_func) \
    X(wasmtime_linker_get) \
    X(wasmtime_linker_instantiate_pre) \
    X(wasmtime_instance_pre_delete) \
    X(wasmtime_store_new) \
    X(wasmtime_store_delete) \
    X(wasmtime_store_context) \
    X(wasmtime_store_limiter) \
    X(wasmtime_store_epoch_deadline_callback) \
    X(wasmtime_context_set_epoch_deadline) \
    X(wasmtime_context_get_data) \
    X(wasmtime_context_set_data) \
    X(wasmtime_context_set_fuel) \
    X(wasmtime_context_get_fuel) \
    X(wasmtime_context_fuel_async_yield_interval) \
    X(wasmtime_instance_pre_instantiate) \
    X(wasmtime_instance_pre_instantiate_async) \
    X(wasmtime_instance_export_get) \
    X(wasmtime_instance_export_nth) \
    X(wasmtime_func_call) \
    X(wasmtime_func_call_unchecked) \
    X(wasmtime_func_type) \
    X(wasmtime_func_call_async) \
    X(wasmtime_call_future_poll) \
    X(wasmtime_call_future_delete) \
    X(wasmtime_caller_context) \
    X(wasmtime_caller_export_get) \
    X(wasmtime_memory_data) \
    X(wasmtime_memory_data_size) \
    X(wasmtime_table_get) \
    X(wasmtime_table_set) \
    X(wasmtime_val_unroot)

typedef struct wasmtime_functions {
#define SPEAR_FIELD(name) __typeof__(name) *name;
    SPEAR_WASMTIME_FUNCTIONS(SPEAR_FIELD)
#undef SPEAR_FIELD
} wasmtime_functions;

/* Fills `table` from the library at `path`. Gives NULL, or the reason (a static or dlerror text;
 * `*symbol` is then the missing symbol's name, or NULL where the library itself did not load). */
static const char *wasmtime_functions_load(wasmtime_functions *table, const char *path,
                                           const char **symbol)
{
    *symbol = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return dlerror();
#define SPEAR_RESOLVE(name)                                          \
    table->name = (__typeof__(name) *)dlsym(library, #name);         \
    if (table->name == NULL) {                                       \
        *symbol = #name;                                             \
        return "the library does not have this function";            \
    }
    SPEAR_WASMTIME_FUNCTIONS(SPEAR_RESOLVE)
#undef SPEAR_RESOLVE
    return NULL;
}

/* Calls by the plain name go through the table of this compilation unit. */
static const wasmtime_functions *spear_wasmtime;
static inline void wasmtime_bind(const wasmtime_functions *table) { spear_wasmtime = table; }
#define wasm_config_new (spear_wasmtime->wasm_config_new)
#define wasm_config_delete (spear_wasmtime->wasm_config_delete)
#define wasmtime_config_epoch_interruption_set (spear_wasmtime->wasmtime_config_epoch_interruption_set)
#define wasmtime_config_consume_fuel_set (spear_wasmtime->wasmtime_config_consume_fuel_set)
#define wasmtime_config_max_wasm_stack_set (spear_wasmtime->wasmtime_config_max_wasm_stack_set)
#define wasmtime_config_async_stack_size_set (spear_wasmtime->wasmtime_config_async_stack_size_set)
#define wasmtime_config_wasm_threads_set (spear_wasmtime->wasmtime_config_wasm_threads_set)
#define wasmtime_config_wasm_multi_memory_set (spear_wasmtime->wasmtime_config_wasm_multi_memory_set)
#define wasmtime_config_wasm_memory64_set (spear_wasmtime->wasmtime_config_wasm_memory64_set)
#define wasmtime_config_wasm_gc_set (spear_wasmtime->wasmtime_config_wasm_gc_set)
#define wasmtime_config_wasm_function_references_set (spear_wasmtime->wasmtime_config_wasm_function_references_set)
#define wasmtime_config_wasm_exceptions_set (spear_wasmtime->wasmtime_config_wasm_exceptions_set)
#define wasmtime_config_wasm_relaxed_simd_deterministic_set (spear_wasmtime->wasmtime_config_wasm_relaxed_simd_deterministic_set)
#define wasmtime_config_gc_support_set (spear_wasmtime->wasmtime_config_gc_support_set)
#define wasmtime_config_parallel_compilation_set (spear_wasmtime->wasmtime_config_parallel_compilation_set)
#define wasmtime_config_cranelift_nan_canonicalization_set (spear_wasmtime->wasmtime_config_cranelift_nan_canonicalization_set)
#define wasmtime_config_memory_reservation_set (spear_wasmtime->wasmtime_config_memory_reservation_set)
#define wasmtime_config_memory_guard_size_set (spear_wasmtime->wasmtime_config_memory_guard_size_set)
#define wasmtime_config_memory_may_move_set (spear_wasmtime->wasmtime_config_memory_may_move_set)
#define wasmtime_config_memory_init_cow_set (spear_wasmtime->wasmtime_config_memory_init_cow_set)
#define wasmtime_config_host_memory_creator_set (spear_wasmtime->wasmtime_config_host_memory_creator_set)
#define wasmtime_config_host_stack_creator_set (spear_wasmtime->wasmtime_config_host_stack_creator_set)
#define wasm_engine_new_with_config (spear_wasmtime->wasm_engine_new_with_config)
#define wasm_engine_delete (spear_wasmtime->wasm_engine_delete)
#define wasmtime_engine_increment_epoch (spear_wasmtime->wasmtime_engine_increment_epoch)
#define wasm_valtype_new (spear_wasmtime->wasm_valtype_new)
#define wasm_valtype_kind (spear_wasmtime->wasm_valtype_kind)
#define wasm_valtype_vec_new (spear_wasmtime->wasm_valtype_vec_new)
#define wasm_functype_new (spear_wasmtime->wasm_functype_new)
#define wasm_functype_delete (spear_wasmtime->wasm_functype_delete)
#define wasm_functype_params (spear_wasmtime->wasm_functype_params)
#define wasm_functype_results (spear_wasmtime->wasm_functype_results)
#define wasmtime_error_new (spear_wasmtime->wasmtime_error_new)
#define wasmtime_error_delete (spear_wasmtime->wasmtime_error_delete)
#define wasmtime_error_message (spear_wasmtime->wasmtime_error_message)
#define wasmtime_error_wasm_trace (spear_wasmtime->wasmtime_error_wasm_trace)
#define wasmtime_trap_new (spear_wasmtime->wasmtime_trap_new)
#define wasmtime_trap_code (spear_wasmtime->wasmtime_trap_code)
#define wasm_trap_message (spear_wasmtime->wasm_trap_message)
#define wasm_trap_trace (spear_wasmtime->wasm_trap_trace)
#define wasm_trap_delete (spear_wasmtime->wasm_trap_delete)
#define wasm_frame_func_index (spear_wasmtime->wasm_frame_func_index)
#define wasm_frame_module_offset (spear_wasmtime->wasm_frame_module_offset)
#define wasmtime_frame_func_name (spear_wasmtime->wasmtime_frame_func_name)
#define wasm_frame_vec_delete (spear_wasmtime->wasm_frame_vec_delete)
#define wasm_byte_vec_delete (spear_wasmtime->wasm_byte_vec_delete)
#define wasmtime_module_new (spear_wasmtime->wasmtime_module_new)
#define wasmtime_module_serialize (spear_wasmtime->wasmtime_module_serialize)
#define wasmtime_module_deserialize (spear_wasmtime->wasmtime_module_deserialize)
#define wasmtime_module_deserialize_file (spear_wasmtime->wasmtime_module_deserialize_file)
#define wasmtime_module_delete (spear_wasmtime->wasmtime_module_delete)
#define wasmtime_linker_new (spear_wasmtime->wasmtime_linker_new)
#define wasmtime_linker_delete (spear_wasmtime->wasmtime_linker_delete)
#define wasmtime_linker_allow_shadowing (spear_wasmtime->wasmtime_linker_allow_shadowing)
#define wasmtime_linker_define (spear_wasmtime->wasmtime_linker_define)
#define wasmtime_linker_define_func_unchecked (spear_wasmtime->wasmtime_linker_define_func_unchecked)
#define wasmtime_linker_define_async_func (spear_wasmtime->wasmtime_linker_define_async_func)
#define wasmtime_linker_get (spear_wasmtime->wasmtime_linker_get)
#define wasmtime_linker_instantiate_pre (spear_wasmtime->wasmtime_linker_instantiate_pre)
#define wasmtime_instance_pre_delete (spear_wasmtime->wasmtime_instance_pre_delete)
#define wasmtime_store_new (spear_wasmtime->wasmtime_store_new)
#define wasmtime_store_delete (spear_wasmtime->wasmtime_store_delete)
#define wasmtime_store_context (spear_wasmtime->wasmtime_store_context)
#define wasmtime_store_limiter (spear_wasmtime->wasmtime_store_limiter)
#define wasmtime_store_epoch_deadline_callback (spear_wasmtime->wasmtime_store_epoch_deadline_callback)
#define wasmtime_context_set_epoch_deadline (spear_wasmtime->wasmtime_context_set_epoch_deadline)
#define wasmtime_context_get_data (spear_wasmtime->wasmtime_context_get_data)
#define wasmtime_context_set_data (spear_wasmtime->wasmtime_context_set_data)
#define wasmtime_context_set_fuel (spear_wasmtime->wasmtime_context_set_fuel)
#define wasmtime_context_get_fuel (spear_wasmtime->wasmtime_context_get_fuel)
#define wasmtime_context_fuel_async_yield_interval (spear_wasmtime->wasmtime_context_fuel_async_yield_interval)
#define wasmtime_instance_pre_instantiate (spear_wasmtime->wasmtime_instance_pre_instantiate)
#define wasmtime_instance_pre_instantiate_async (spear_wasmtime->wasmtime_instance_pre_instantiate_async)
#define wasmtime_instance_export_get (spear_wasmtime->wasmtime_instance_export_get)
#define wasmtime_instance_export_nth (spear_wasmtime->wasmtime_instance_export_nth)
#define wasmtime_func_call (spear_wasmtime->wasmtime_func_call)
#define wasmtime_func_call_unchecked (spear_wasmtime->wasmtime_func_call_unchecked)
#define wasmtime_func_type (spear_wasmtime->wasmtime_func_type)
#define wasmtime_func_call_async (spear_wasmtime->wasmtime_func_call_async)
#define wasmtime_call_future_poll (spear_wasmtime->wasmtime_call_future_poll)
#define wasmtime_call_future_delete (spear_wasmtime->wasmtime_call_future_delete)
#define wasmtime_caller_context (spear_wasmtime->wasmtime_caller_context)
#define wasmtime_caller_export_get (spear_wasmtime->wasmtime_caller_export_get)
#define wasmtime_memory_data (spear_wasmtime->wasmtime_memory_data)
#define wasmtime_memory_data_size (spear_wasmtime->wasmtime_memory_data_size)
#define wasmtime_table_get (spear_wasmtime->wasmtime_table_get)
#define wasmtime_table_set (spear_wasmtime->wasmtime_table_set)
#define wasmtime_val_unroot (spear_wasmtime->wasmtime_val_unroot)

#endif

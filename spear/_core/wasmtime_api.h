/* The part of Wasmtime's C API that SPEAR uses, declared by hand for releases 50.0.1 and later.
 *
 * Rule: plain declarations only, so that two readers understand the file: the C compiler, and cffi
 * in ABI mode, which drops the lines that begin with '#'. A change here is checked by
 * tests/reference/engine.py, which drives the same declarations against the installed library.
 */
#ifndef SPEAR_WASMTIME_API_H
#define SPEAR_WASMTIME_API_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opaque handles. */
typedef struct wasm_config_t wasm_config_t;
typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasm_memorytype_t wasm_memorytype_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasm_frame_t wasm_frame_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_instance_pre wasmtime_instance_pre_t;
typedef struct wasmtime_store wasmtime_store_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_call_future wasmtime_call_future_t;

/* Vectors: `data` belongs to the library, freed by the matching delete. */
typedef struct wasm_byte_vec_t { size_t size; char *data; } wasm_byte_vec_t;
typedef struct wasm_frame_vec_t { size_t size; wasm_frame_t **data; } wasm_frame_vec_t;
typedef struct wasm_valtype_vec_t { size_t size; wasm_valtype_t **data; } wasm_valtype_vec_t;

/* Items of a store: plain values, valid as long as the store lives. */
typedef struct wasmtime_instance { uint64_t store_id; size_t index; } wasmtime_instance_t;
typedef struct wasmtime_func { uint64_t store_id; void *item; } wasmtime_func_t;
typedef struct wasmtime_memory {
    struct { uint64_t store_id; uint32_t part_1; } owner;
    uint32_t part_2;
} wasmtime_memory_t;
typedef struct wasmtime_table {
    struct { uint64_t store_id; uint32_t part_1; } owner;
    uint32_t part_2;
} wasmtime_table_t;
typedef struct wasmtime_global {
    uint64_t store_id;
    uint32_t part_1;
    uint32_t part_2;
    uint32_t part_3;
} wasmtime_global_t;
typedef struct wasmtime_reference {
    uint64_t store_id;
    uint32_t part_1;
    uint32_t part_2;
    void *part_3;
} wasmtime_reference_t;

enum {
    WASMTIME_EXTERN_KIND_FUNC = 0,
    WASMTIME_EXTERN_KIND_GLOBAL = 1,
    WASMTIME_EXTERN_KIND_TABLE = 2,
    WASMTIME_EXTERN_KIND_MEMORY = 3
};
typedef union wasmtime_extern_union {
    wasmtime_func_t func;
    wasmtime_global_t global;
    wasmtime_table_t table;
    wasmtime_memory_t memory;
    void *sharedmemory;
} wasmtime_extern_union_t;
typedef struct wasmtime_extern {
    uint8_t kind;
    wasmtime_extern_union_t of;
} wasmtime_extern_t;

enum {
    WASMTIME_KIND_I32 = 0,
    WASMTIME_KIND_I64 = 1,
    WASMTIME_KIND_F32 = 2,
    WASMTIME_KIND_F64 = 3,
    WASMTIME_KIND_FUNCREF = 5 /* null where the func's store_id is 0 */
};
typedef union wasmtime_valunion {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    wasmtime_reference_t reference;
    wasmtime_func_t funcref;
    uint8_t v128[16];
} wasmtime_valunion_t;
typedef struct wasmtime_val {
    uint8_t kind;
    wasmtime_valunion_t of;
} wasmtime_val_t;
typedef union wasmtime_val_raw {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
    void *funcref;
} wasmtime_val_raw_t;

/* Callbacks. */
typedef void (*wasmtime_finalizer_t)(void *env);
typedef bool (*wasmtime_ready_t)(void *env);
/* A returned trap or error is owned by the library. */
typedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(
    void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args_and_results, size_t count);
typedef struct wasmtime_async_continuation_t {
    wasmtime_ready_t callback;
    void *env;
    wasmtime_finalizer_t finalizer;
} wasmtime_async_continuation_t;
typedef void (*wasmtime_func_async_callback_t)(
    void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t nargs,
    wasmtime_val_t *results, size_t nresults, wasm_trap_t **trap_ret,
    wasmtime_async_continuation_t *continuation_ret);
typedef wasmtime_error_t *(*wasmtime_epoch_callback_t)(
    wasmtime_context_t *context, void *data, uint64_t *delta, uint8_t *kind);
enum { WASMTIME_UPDATE_DEADLINE_CONTINUE = 0, WASMTIME_UPDATE_DEADLINE_YIELD = 1 };

/* Memory and stack creators. */
typedef struct wasmtime_linear_memory {
    void *env;
    uint8_t *(*get_memory)(void *env, size_t *byte_size, size_t *byte_capacity);
    wasmtime_error_t *(*grow_memory)(void *env, size_t new_size);
    void (*finalizer)(void *env);
} wasmtime_linear_memory_t;
typedef struct wasmtime_memory_creator {
    void *env;
    wasmtime_error_t *(*new_memory)(void *env, const wasm_memorytype_t *type, size_t minimum,
                                    size_t maximum, size_t reserved, size_t guard,
                                    wasmtime_linear_memory_t *memory_ret);
    void (*finalizer)(void *env);
} wasmtime_memory_creator_t;
typedef struct wasmtime_stack_memory_t {
    void *env;
    uint8_t *(*get_stack_memory)(void *env, size_t *out_len);
    void (*finalizer)(void *env);
} wasmtime_stack_memory_t;
typedef struct wasmtime_stack_creator_t {
    void *env;
    wasmtime_error_t *(*new_stack)(void *env, size_t size, bool zeroed,
                                   wasmtime_stack_memory_t *stack_ret);
    void (*finalizer)(void *env);
} wasmtime_stack_creator_t;

/* Configuration and engine. The engine takes the configuration over. */
wasm_config_t *wasm_config_new(void);
void wasm_config_delete(wasm_config_t *config);
void wasmtime_config_epoch_interruption_set(wasm_config_t *config, bool on);
void wasmtime_config_consume_fuel_set(wasm_config_t *config, bool on);
void wasmtime_config_max_wasm_stack_set(wasm_config_t *config, size_t bytes);
void wasmtime_config_async_stack_size_set(wasm_config_t *config, size_t bytes);
void wasmtime_config_wasm_threads_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_multi_memory_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_memory64_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_gc_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_function_references_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_exceptions_set(wasm_config_t *config, bool on);
void wasmtime_config_wasm_relaxed_simd_deterministic_set(wasm_config_t *config, bool on);
void wasmtime_config_gc_support_set(wasm_config_t *config, bool on);
void wasmtime_config_parallel_compilation_set(wasm_config_t *config, bool on);
void wasmtime_config_cranelift_nan_canonicalization_set(wasm_config_t *config, bool on);
void wasmtime_config_memory_reservation_set(wasm_config_t *config, uint64_t bytes);
void wasmtime_config_memory_guard_size_set(wasm_config_t *config, uint64_t bytes);
void wasmtime_config_memory_may_move_set(wasm_config_t *config, bool on);
void wasmtime_config_memory_init_cow_set(wasm_config_t *config, bool on);
void wasmtime_config_host_memory_creator_set(wasm_config_t *config,
                                             wasmtime_memory_creator_t *creator);
void wasmtime_config_host_stack_creator_set(wasm_config_t *config,
                                            wasmtime_stack_creator_t *creator);
wasm_engine_t *wasm_engine_new_with_config(wasm_config_t *config);
void wasm_engine_delete(wasm_engine_t *engine);
void wasmtime_engine_increment_epoch(const wasm_engine_t *engine);

/* Types. */
wasm_valtype_t *wasm_valtype_new(uint8_t kind);
uint8_t wasm_valtype_kind(const wasm_valtype_t *type);
void wasm_valtype_vec_new(wasm_valtype_vec_t *out, size_t count, wasm_valtype_t *const *items);
wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *params, wasm_valtype_vec_t *results);
void wasm_functype_delete(wasm_functype_t *type);
const wasm_valtype_vec_t *wasm_functype_params(const wasm_functype_t *type);
const wasm_valtype_vec_t *wasm_functype_results(const wasm_functype_t *type);

/* Errors, traps, frames. */
wasmtime_error_t *wasmtime_error_new(const char *message);
void wasmtime_error_delete(wasmtime_error_t *error);
void wasmtime_error_message(const wasmtime_error_t *error, wasm_byte_vec_t *out);
void wasmtime_error_wasm_trace(const wasmtime_error_t *error, wasm_frame_vec_t *out);
wasm_trap_t *wasmtime_trap_new(const char *message, size_t length);
bool wasmtime_trap_code(const wasm_trap_t *trap, uint8_t *code);
void wasm_trap_message(const wasm_trap_t *trap, wasm_byte_vec_t *out);
void wasm_trap_trace(const wasm_trap_t *trap, wasm_frame_vec_t *out);
void wasm_trap_delete(wasm_trap_t *trap);
uint32_t wasm_frame_func_index(const wasm_frame_t *frame);
size_t wasm_frame_module_offset(const wasm_frame_t *frame);
const wasm_byte_vec_t *wasmtime_frame_func_name(const wasm_frame_t *frame);
void wasm_frame_vec_delete(wasm_frame_vec_t *frames);
void wasm_byte_vec_delete(wasm_byte_vec_t *bytes);

/* Modules and linking. */
wasmtime_error_t *wasmtime_module_new(wasm_engine_t *engine, const uint8_t *wasm, size_t length,
                                      wasmtime_module_t **ret);
wasmtime_error_t *wasmtime_module_serialize(const wasmtime_module_t *module, wasm_byte_vec_t *ret);
wasmtime_error_t *wasmtime_module_deserialize(wasm_engine_t *engine, const uint8_t *code,
                                              size_t length, wasmtime_module_t **ret);
wasmtime_error_t *wasmtime_module_deserialize_file(wasm_engine_t *engine, const char *path,
                                                   wasmtime_module_t **ret);
void wasmtime_module_delete(wasmtime_module_t *module);
wasmtime_linker_t *wasmtime_linker_new(wasm_engine_t *engine);
void wasmtime_linker_delete(wasmtime_linker_t *linker);
void wasmtime_linker_allow_shadowing(wasmtime_linker_t *linker, bool allowed);
wasmtime_error_t *wasmtime_linker_define(wasmtime_linker_t *linker, wasmtime_context_t *context,
                                         const char *module, size_t module_len, const char *name,
                                         size_t name_len, const wasmtime_extern_t *item);
wasmtime_error_t *wasmtime_linker_define_func_unchecked(
    wasmtime_linker_t *linker, const char *module, size_t module_len, const char *name,
    size_t name_len, const wasm_functype_t *type, wasmtime_func_unchecked_callback_t callback,
    void *env, void (*finalizer)(void *));
wasmtime_error_t *wasmtime_linker_define_async_func(
    wasmtime_linker_t *linker, const char *module, size_t module_len, const char *name,
    size_t name_len, const wasm_functype_t *type, wasmtime_func_async_callback_t callback,
    void *env, void (*finalizer)(void *));
bool wasmtime_linker_get(const wasmtime_linker_t *linker, wasmtime_context_t *context,
                         const char *module, size_t module_len, const char *name, size_t name_len,
                         wasmtime_extern_t *item);
wasmtime_error_t *wasmtime_linker_instantiate_pre(const wasmtime_linker_t *linker,
                                                  const wasmtime_module_t *module,
                                                  wasmtime_instance_pre_t **ret);
void wasmtime_instance_pre_delete(wasmtime_instance_pre_t *pre);

/* Stores, instances, calls. */
wasmtime_store_t *wasmtime_store_new(wasm_engine_t *engine, void *data, void (*finalizer)(void *));
void wasmtime_store_delete(wasmtime_store_t *store);
wasmtime_context_t *wasmtime_store_context(wasmtime_store_t *store);
void wasmtime_store_limiter(wasmtime_store_t *store, int64_t memory_bytes, int64_t table_elements,
                            int64_t instances, int64_t tables, int64_t memories);
void wasmtime_store_epoch_deadline_callback(wasmtime_store_t *store,
                                            wasmtime_epoch_callback_t callback, void *data,
                                            void (*finalizer)(void *));
void wasmtime_context_set_epoch_deadline(wasmtime_context_t *context, uint64_t ticks);
void *wasmtime_context_get_data(const wasmtime_context_t *context);
void wasmtime_context_set_data(wasmtime_context_t *context, void *data);
wasmtime_error_t *wasmtime_context_set_fuel(wasmtime_context_t *context, uint64_t fuel);
wasmtime_error_t *wasmtime_context_get_fuel(const wasmtime_context_t *context, uint64_t *fuel);
wasmtime_error_t *wasmtime_context_fuel_async_yield_interval(wasmtime_context_t *context,
                                                             uint64_t interval);
wasmtime_error_t *wasmtime_instance_pre_instantiate(const wasmtime_instance_pre_t *pre,
                                                    wasmtime_context_t *context,
                                                    wasmtime_instance_t *instance,
                                                    wasm_trap_t **trap_ret);
wasmtime_call_future_t *wasmtime_instance_pre_instantiate_async(
    const wasmtime_instance_pre_t *pre, wasmtime_context_t *context,
    wasmtime_instance_t *instance, wasm_trap_t **trap_ret, wasmtime_error_t **error_ret);
bool wasmtime_instance_export_get(wasmtime_context_t *context, const wasmtime_instance_t *instance,
                                  const char *name, size_t name_len, wasmtime_extern_t *item);
bool wasmtime_instance_export_nth(wasmtime_context_t *context, const wasmtime_instance_t *instance,
                                  size_t index, char **name, size_t *name_len,
                                  wasmtime_extern_t *item);
wasmtime_error_t *wasmtime_func_call(wasmtime_context_t *context, const wasmtime_func_t *func,
                                     const wasmtime_val_t *args, size_t nargs,
                                     wasmtime_val_t *results, size_t nresults,
                                     wasm_trap_t **trap_ret);
wasmtime_error_t *wasmtime_func_call_unchecked(wasmtime_context_t *context,
                                               const wasmtime_func_t *func,
                                               wasmtime_val_raw_t *args_and_results, size_t count,
                                               wasm_trap_t **trap_ret);
wasm_functype_t *wasmtime_func_type(const wasmtime_context_t *context,
                                    const wasmtime_func_t *func);
wasmtime_call_future_t *wasmtime_func_call_async(wasmtime_context_t *context,
                                                 const wasmtime_func_t *func,
                                                 const wasmtime_val_t *args, size_t nargs,
                                                 wasmtime_val_t *results, size_t nresults,
                                                 wasm_trap_t **trap_ret,
                                                 wasmtime_error_t **error_ret);
bool wasmtime_call_future_poll(wasmtime_call_future_t *future);
void wasmtime_call_future_delete(wasmtime_call_future_t *future);
wasmtime_context_t *wasmtime_caller_context(wasmtime_caller_t *caller);
bool wasmtime_caller_export_get(wasmtime_caller_t *caller, const char *name, size_t name_len,
                                wasmtime_extern_t *item);
uint8_t *wasmtime_memory_data(wasmtime_context_t *context, const wasmtime_memory_t *memory);
size_t wasmtime_memory_data_size(const wasmtime_context_t *context,
                                 const wasmtime_memory_t *memory);
/* False where there is no element `index`; the value is the caller's to unroot. */
bool wasmtime_table_get(wasmtime_context_t *context, const wasmtime_table_t *table, uint64_t index,
                        wasmtime_val_t *value);
wasmtime_error_t *wasmtime_table_set(wasmtime_context_t *context, const wasmtime_table_t *table,
                                     uint64_t index, const wasmtime_val_t *value);
void wasmtime_val_unroot(wasmtime_val_t *value);

#endif

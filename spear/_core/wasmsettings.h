/* The settings of the engine that compiled code depends on.
 *
 * Rule: who compiles (compilechild.c) and who runs (engine.pyx) apply this one function, so code
 * made by the one is taken by the other. A change here changes SETTINGS in engine.pyx as well.
 */
#ifndef SPEAR_WASMSETTINGS_H
#define SPEAR_WASMSETTINGS_H
#include "wasmtime_load.h"

#define SPEAR_WASM_STACK_BYTES ((size_t)256 << 10)
#define SPEAR_FIBER_STACK_BYTES ((size_t)1 << 20)

/* `metered`: the code counts fuel and gives the same results on every machine. */
static void wasm_settings_apply(wasm_config_t *config, bool metered)
{
    wasmtime_config_consume_fuel_set(config, metered);
    wasmtime_config_cranelift_nan_canonicalization_set(config, metered);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(config, metered);
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_max_wasm_stack_set(config, SPEAR_WASM_STACK_BYTES);
    wasmtime_config_async_stack_size_set(config, SPEAR_FIBER_STACK_BYTES);
    wasmtime_config_wasm_threads_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_gc_set(config, false);
    wasmtime_config_wasm_function_references_set(config, false);
    wasmtime_config_wasm_exceptions_set(config, false);
    wasmtime_config_memory_reservation_set(config, (uint64_t)4 << 30);
    wasmtime_config_memory_may_move_set(config, false);
    wasmtime_config_memory_init_cow_set(config, false);
}

#endif

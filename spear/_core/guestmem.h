/*
 * guestmem: linear memories and fiber stacks that are recycled from guest to
 * guest, for an on-demand Wasmtime engine.
 *
 * A memory lives in a slot: a reservation of address space (4 GiB by default)
 * followed by a guard, of which only the current size of the memory is
 * readable and writable. When a guest ends, its slot is made all zeros again
 * and kept. To do that cheaply the kernel is asked which pages were touched
 * (PAGEMAP_SCAN, Linux 6.7 and later), or a small memory is read; few are
 * zeroed in place and stay resident, many are given back to the kernel.
 *
 * Invariant: every byte of an idle slot reads as zero (or cannot be read).
 *
 * All functions are safe to call from any thread; one memory or stack must
 * not be used by two calls at once. Nothing here needs Python or the GIL.
 */
#ifndef GUESTMEM_H
#define GUESTMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gm_pool gm_pool;
typedef struct gm_memory gm_memory;
typedef struct gm_stack gm_stack;

/* How touched pages are found when a memory comes back. */
typedef enum gm_clean {
    GM_CLEAN_AUTO = 0, /* the first of the following that passes its self-test */
    GM_CLEAN_SCAN,     /* ioctl PAGEMAP_SCAN */
    GM_CLEAN_READ,     /* read /proc/self/pagemap, 8 bytes a page */
    GM_CLEAN_DROP,     /* do not look: give everything back to the kernel */
} gm_clean;

/* Zero in a field means its default. */
typedef struct gm_options {
    size_t reservation_bytes;  /* of one memory; 4 GiB. >= the engine's memory_reservation */
    size_t guard_bytes;        /* behind each memory; 32 MiB. >= the engine's memory_guard_size */
    uint32_t memories_max;     /* 1,000 */
    uint32_t stacks_max;       /* 1,000 */
    size_t stack_bytes;        /* of one stack; 1 MiB. >= the engine's async_stack_size */
    size_t keep_bytes_max;     /* touched bytes of one memory zeroed in place; above: given back. 4 MiB */
    size_t idle_bytes_max;     /* resident bytes of all idle memories; 256 MiB */
    uint32_t shards;           /* free lists; number of CPUs, at most 16 */
    gm_clean clean;
} gm_options;

typedef struct gm_stats {
    uint64_t memories_made, memories_idle;   /* slots ever used; idle now */
    uint64_t stacks_made, stacks_idle;
    uint64_t idle_bytes;                     /* resident in idle memories */
    uint64_t zeroed, dropped;                /* memories cleaned either way */
    uint64_t bytes_zeroed;
    uint64_t adapted;                        /* reuse that needed an mprotect */
} gm_stats;

/* NULL: not possible; `why` (optional, why_len bytes) says why. */
gm_pool *gm_pool_new(const gm_options *options, char *why, size_t why_len);

/* Drops one reference; the last one frees everything. No memory or stack may
 * be in use by then. */
void gm_pool_release(gm_pool *pool);
void gm_pool_retain(gm_pool *pool);

gm_clean gm_pool_clean(const gm_pool *pool);
void gm_pool_stats(gm_pool *pool, gm_stats *out);

/* Gives the pages of all idle memories and stacks back to the kernel. */
void gm_pool_trim(gm_pool *pool);

/* 0, or a negative errno: -ENOMEM no slot or no memory, -EINVAL too large,
 * -EOWNERDEAD in a child made by fork (which must make its own pool). */
int gm_memory_acquire(gm_pool *pool, size_t minimum, gm_memory **out);
int gm_memory_grow(gm_memory *memory, size_t size);
void gm_memory_release(gm_memory *memory);
uint8_t *gm_memory_base(const gm_memory *memory);
size_t gm_memory_size(const gm_memory *memory);
size_t gm_memory_capacity(const gm_memory *memory);

/* Contents of a recycled stack are whatever the last guest left. */
int gm_stack_acquire(gm_pool *pool, size_t size, gm_stack **out);
void gm_stack_release(gm_stack *stack);
uint8_t *gm_stack_top(const gm_stack *stack, size_t *len);

/* ---- Wasmtime --------------------------------------------------------- */

struct wasm_config_t;
struct wasmtime_error;
struct wasmtime_memory_creator;

/* Entry points, so that a library opened by dlopen can be used. The two
 * creator setters take pointers to Wasmtime's structs. */
typedef struct gm_wasmtime {
    struct wasmtime_error *(*error_new)(const char *message);
    void (*host_memory_creator_set)(struct wasm_config_t *, void *memory_creator);
    void (*host_stack_creator_set)(struct wasm_config_t *, void *stack_creator);
    void (*memory_init_cow_set)(struct wasm_config_t *, bool);
} gm_wasmtime;

/* Makes `config` (on-demand strategy) take memories and stacks from `pool`;
 * the engine holds its own references. Turns copy-on-write memory images off:
 * with a host creator Wasmtime panics on a module that has one. */
void gm_install(gm_pool *pool, struct wasm_config_t *config, const gm_wasmtime *api);

#ifdef __cplusplus
}
#endif
#endif

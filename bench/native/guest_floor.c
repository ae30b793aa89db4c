/* The floor under guests: Wasmtime's own C library in a plain loop, nothing of ours around it but,
 * where asked for, our recycler of memories and stacks.
 *
 *   guest_floor LIBRARY fresh WASM ALLOCATOR PATH THREADS MILLIS
 *       ALLOCATOR: pooled (small: 1 MiB of each memory stays), pooled-drop (nothing stays),
 *       recycler (guestmem.c on an on-demand engine), on-demand. PATH: sync or fiber.
 *       Each guest: store, limiter, epoch callback, deadline, instance, `_start`, call, drop.
 *   guest_floor LIBRARY warm WASM FUNCTION COUNT
 *       Calls of an (i32, i32) -> i32 on one instance.
 *   guest_floor LIBRARY kill WASM DEADLINE_MS RUNS OTHERS
 *       How late `_start`, an endless loop, is ended while OTHERS threads run the same loop.
 *   guest_floor LIBRARY parked WASM GUESTS
 *       By how much GUESTS fibers that wait in spear.sleep_ms, each in a store of its own, make the
 *       process grow.
 *
 * Rule: prints one JSON object; any failure ends the program with a message. Threads run where the
 * kernel puts them, within the CPUs this process may use.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guestmem.h"
#include "wasmtime_load.h"

/* What the package itself never uses, so it stands in no header of ours. */
typedef struct pooling_config pooling_config;
#define POOLING(X) \
    X(new, pooling_config *, (void)) \
    X(delete, void, (pooling_config *)) \
    X(linear_memory_keep_resident_set, void, (pooling_config *, size_t)) \
    X(total_memories_set, void, (pooling_config *, uint32_t)) \
    X(total_core_instances_set, void, (pooling_config *, uint32_t)) \
    X(total_stacks_set, void, (pooling_config *, uint32_t)) \
    X(total_tables_set, void, (pooling_config *, uint32_t))
static struct {
#define FIELD(name, result, parameters) result(*name) parameters;
    POOLING(FIELD)
#undef FIELD
    void (*use)(wasm_config_t *, const pooling_config *);
} pooling;

static uint32_t slots = 256;
enum { WARM_UP = 2000, BATCH = 50, THREADS_MAX = 64, SAMPLES_MAX = 1000 };
enum { WASM_STACK_BYTES = 256 << 10, FIBER_STACK_BYTES = 1 << 20, TABLE_ELEMENTS = 100000 };
enum { MEMORY_BYTES = 64 << 20 };

static wasmtime_functions functions;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "guest_floor: %s\n", what);
    exit(1);
}

static void check(wasmtime_error_t *error, wasm_trap_t *trap)
{
    if (trap != NULL)
        die("the guest trapped");
    if (error == NULL)
        return;
    wasm_byte_vec_t text;
    wasmtime_error_message(error, &text);
    fprintf(stderr, "guest_floor: %.*s\n", (int)text.size, text.data);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (found == NULL)
        die(name);
    return found;
}

static void load_library(const char *path)
{
    const char *missing, *reason = wasmtime_functions_load(&functions, path, &missing);
    if (reason != NULL)
        die(missing != NULL ? missing : reason);
    wasmtime_bind(&functions);
    void *library = dlopen(path, RTLD_NOW);
#define RESOLVE(name, result, parameters) \
    pooling.name = symbol(library, "wasmtime_pooling_allocation_config_" #name);
    POOLING(RESOLVE)
#undef RESOLVE
    pooling.use = symbol(library, "wasmtime_pooling_allocation_strategy_set");
}

/* ---- engines: the package's settings, and the allocator asked for */

typedef struct program {
    wasm_engine_t *engine;
    wasmtime_instance_pre_t *pre;
} program_t;

static void use_pool(wasm_config_t *config, size_t keep_bytes)
{
    pooling_config *pool = pooling.new();
    pooling.linear_memory_keep_resident_set(pool, keep_bytes);
    pooling.total_memories_set(pool, slots);
    pooling.total_core_instances_set(pool, slots);
    pooling.total_stacks_set(pool, slots);
    pooling.total_tables_set(pool, slots);
    pooling.use(config, pool);
    pooling.delete(pool);
}

static void use_recycler(wasm_config_t *config)
{
    char why[200] = "";
    gm_options options = {
        .memories_max = slots, .stacks_max = slots, .stack_bytes = FIBER_STACK_BYTES};
    gm_pool *pool = gm_pool_new(&options, why, sizeof why);
    if (pool == NULL)
        die(why);
    gm_wasmtime api = {
        .error_new = (void *)wasmtime_error_new,
        .host_memory_creator_set = (void *)wasmtime_config_host_memory_creator_set,
        .host_stack_creator_set = (void *)wasmtime_config_host_stack_creator_set,
        .memory_init_cow_set = (void *)wasmtime_config_memory_init_cow_set,
    };
    gm_install(pool, (void *)config, &api);
}

static wasm_engine_t *new_engine(const char *allocator)
{
    wasm_config_t *config = wasm_config_new();
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_max_wasm_stack_set(config, WASM_STACK_BYTES);
    wasmtime_config_async_stack_size_set(config, FIBER_STACK_BYTES);
    wasmtime_config_memory_reservation_set(config, (uint64_t)4 << 30);
    wasmtime_config_memory_may_move_set(config, false);
    if (strcmp(allocator, "pooled") == 0)
        use_pool(config, 1 << 20);
    else if (strcmp(allocator, "pooled-drop") == 0)
        use_pool(config, 0);
    else if (strcmp(allocator, "recycler") == 0)
        use_recycler(config);
    else if (strcmp(allocator, "on-demand") != 0)
        die("unknown allocator");
    wasm_engine_t *engine = wasm_engine_new_with_config(config);
    if (engine == NULL)
        die("the engine refused its settings");
    return engine;
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die(path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*size);
    if (data == NULL || fread(data, 1, *size, file) != *size)
        die("the module cannot be read");
    fclose(file);
    return data;
}

static bool never(void *env)
{
    (void)env;
    return false;
}

static void sleep_for_ever(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *arguments,
                           size_t count, wasmtime_val_t *results, size_t result_count,
                           wasm_trap_t **trap, wasmtime_async_continuation_t *continuation)
{
    (void)env, (void)caller, (void)arguments, (void)count, (void)results, (void)result_count;
    (void)trap;
    *continuation = (wasmtime_async_continuation_t){.callback = never};
}

/* spear.sleep_ms, which the guests of `parked` import. */
static void define_sleep(wasmtime_linker_t *linker)
{
    wasm_valtype_t *type = wasm_valtype_new(WASMTIME_KIND_I32);
    wasm_valtype_vec_t parameters, results;
    wasm_valtype_vec_new(&parameters, 1, &type);
    wasm_valtype_vec_new(&results, 0, NULL);
    wasm_functype_t *function = wasm_functype_new(&parameters, &results);
    check(wasmtime_linker_define_async_func(linker, "spear", 5, "sleep_ms", 8, function,
                                            sleep_for_ever, NULL, NULL),
          NULL);
    wasm_functype_delete(function);
}

static program_t load_program(const char *path, const char *allocator)
{
    size_t size;
    uint8_t *wasm = read_file(path, &size);
    program_t program = {.engine = new_engine(allocator)};
    wasmtime_module_t *module;
    check(wasmtime_module_new(program.engine, wasm, size, &module), NULL);
    wasmtime_linker_t *linker = wasmtime_linker_new(program.engine);
    define_sleep(linker);
    check(wasmtime_linker_instantiate_pre(linker, module, &program.pre), NULL);
    free(wasm);
    return program;
}

/* ---- one guest */

typedef struct guest {
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_instance_t instance;
    wasmtime_extern_t entry;
    wasm_trap_t *trap;
    wasmtime_error_t *error;
    int64_t deadline_ns;
    const int *stop;
} guest_t;

static wasmtime_error_t *on_epoch(wasmtime_context_t *context, void *data, uint64_t *delta,
                                  uint8_t *kind)
{
    const guest_t *guest = data;
    bool stopped = guest->stop != NULL && __atomic_load_n(guest->stop, __ATOMIC_ACQUIRE);
    (void)context;
    *delta = 1;
    *kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
    if (stopped || now_ns() >= guest->deadline_ns)
        return wasmtime_error_new("ended by the host");
    return NULL;
}

static void begin(const program_t *program, guest_t *guest)
{
    guest->store = wasmtime_store_new(program->engine, guest, NULL);
    guest->context = wasmtime_store_context(guest->store);
    guest->trap = NULL;
    guest->error = NULL;
    wasmtime_store_limiter(guest->store, MEMORY_BYTES, TABLE_ELEMENTS, 2, 4, 1);
    wasmtime_store_epoch_deadline_callback(guest->store, on_epoch, guest, NULL);
    wasmtime_context_set_epoch_deadline(guest->context, 1);
}

static void find(guest_t *guest, const char *name)
{
    if (!wasmtime_instance_export_get(guest->context, &guest->instance, name, strlen(name),
                                      &guest->entry))
        die("the module lacks its entry");
}

static void instantiate(const program_t *program, guest_t *guest)
{
    check(wasmtime_instance_pre_instantiate(program->pre, guest->context, &guest->instance,
                                            &guest->trap),
          guest->trap);
}

static void run_sync(const program_t *program, guest_t *guest)
{
    begin(program, guest);
    instantiate(program, guest);
    find(guest, "_start");
    check(wasmtime_func_call(guest->context, &guest->entry.of.func, NULL, 0, NULL, 0,
                             &guest->trap),
          guest->trap);
    wasmtime_store_delete(guest->store);
}

static void finish(guest_t *guest, wasmtime_call_future_t *future)
{
    while (!wasmtime_call_future_poll(future))
        ;
    wasmtime_call_future_delete(future);
    check(guest->error, guest->trap);
}

static void run_fiber(const program_t *program, guest_t *guest)
{
    begin(program, guest);
    finish(guest, wasmtime_instance_pre_instantiate_async(
                      program->pre, guest->context, &guest->instance, &guest->trap, &guest->error));
    find(guest, "_start");
    finish(guest, wasmtime_func_call_async(guest->context, &guest->entry.of.func, NULL, 0, NULL, 0,
                                           &guest->trap, &guest->error));
    wasmtime_store_delete(guest->store);
}

/* ---- fresh guests */

typedef struct fresh {
    const program_t *program;
    void (*run)(const program_t *, guest_t *);
    int64_t duration_ns;
    pthread_barrier_t *start;
    double per_second;
} fresh_t;

static void *run_fresh(void *argument)
{
    fresh_t *fresh = argument;
    guest_t guest = {.deadline_ns = INT64_MAX};
    int64_t began, ended;
    uint64_t count = 0;
    for (int i = 0; i < WARM_UP; i++)
        fresh->run(fresh->program, &guest);
    pthread_barrier_wait(fresh->start);
    began = now_ns();
    do {
        for (int i = 0; i < BATCH; i++)
            fresh->run(fresh->program, &guest);
        count += BATCH;
        ended = now_ns();
    } while (ended - began < fresh->duration_ns);
    fresh->per_second = (double)count * 1e9 / (double)(ended - began);
    return NULL;
}

static void fresh(char **arguments)
{
    program_t program = load_program(arguments[0], arguments[1]);
    int count = atoi(arguments[3]);
    pthread_t threads[THREADS_MAX];
    fresh_t runs[THREADS_MAX];
    pthread_barrier_t start;
    double per_second = 0;
    if (count < 1 || count > THREADS_MAX)
        die("1 to 64 threads");
    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        runs[i] = (fresh_t){
            .program = &program, .start = &start,
            .run = strcmp(arguments[2], "fiber") == 0 ? run_fiber : run_sync,
            .duration_ns = atoll(arguments[4]) * 1000000,
        };
        pthread_create(&threads[i], NULL, run_fresh, &runs[i]);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        per_second += runs[i].per_second;
    }
    printf("{\"guest_us\": %.4f, \"per_second\": %.0f}\n", 1e6 / per_second, per_second);
}

/* ---- parked guests */

static long resident_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL)
        die("no /proc/self/status");
    while (kib < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = atol(line + 6);
    fclose(file);
    return kib;
}

/* Begins a guest that stays: its call is polled once, and waits. */
static void park(const program_t *program, guest_t *guest)
{
    begin(program, guest);
    guest->deadline_ns = INT64_MAX;
    finish(guest, wasmtime_instance_pre_instantiate_async(
                      program->pre, guest->context, &guest->instance, &guest->trap, &guest->error));
    find(guest, "_start");
    if (wasmtime_call_future_poll(
            wasmtime_func_call_async(guest->context, &guest->entry.of.func, NULL, 0, NULL, 0,
                                     &guest->trap, &guest->error)))
        die("a guest did not wait");
}

static void park_all(char **arguments)
{
    int count = atoi(arguments[1]);
    if (count < 1 || count > 24000)
        die("1 to 24,000 guests");
    slots = (uint32_t)count + 1;
    program_t program = load_program(arguments[0], "recycler");
    guest_t first, *guests = calloc((size_t)count, sizeof *guests);
    if (guests == NULL)
        die("no memory");
    park(&program, &first);
    long before = resident_kib();
    for (int i = 0; i < count; i++)
        park(&program, &guests[i]);
    printf("{\"grown_kib\": %ld}\n", resident_kib() - before);
}

/* ---- warm calls */

static double unchecked_ns(guest_t *guest, int count)
{
    wasmtime_val_raw_t slots[2];
    int64_t began = now_ns();
    for (int i = 0; i < count; i++) {
        slots[0].i32 = i;
        slots[1].i32 = 2;
        check(wasmtime_func_call_unchecked(guest->context, &guest->entry.of.func, slots, 2,
                                           &guest->trap),
              guest->trap);
        if (slots[0].i32 != i + 2)
            die("a wrong sum");
    }
    return (double)(now_ns() - began) / count;
}

static double checked_ns(guest_t *guest, int count)
{
    wasmtime_val_t values[2] = {{.kind = WASMTIME_KIND_I32}, {.kind = WASMTIME_KIND_I32}}, sum;
    int64_t began = now_ns();
    for (int i = 0; i < count; i++) {
        values[0].of.i32 = i;
        values[1].of.i32 = 2;
        check(wasmtime_func_call(guest->context, &guest->entry.of.func, values, 2, &sum, 1,
                                 &guest->trap),
              guest->trap);
        if (sum.of.i32 != i + 2)
            die("a wrong sum");
    }
    return (double)(now_ns() - began) / count;
}

static void warm(char **arguments)
{
    program_t program = load_program(arguments[0], "recycler");
    int count = atoi(arguments[2]);
    guest_t guest = {.deadline_ns = INT64_MAX};
    begin(&program, &guest);
    instantiate(&program, &guest);
    find(&guest, arguments[1]);
    unchecked_ns(&guest, count / 10);
    double unchecked = unchecked_ns(&guest, count);
    printf("{\"unchecked_us\": %.6f, \"checked_us\": %.6f}\n", unchecked / 1e3,
           checked_ns(&guest, count) / 1e3);
}

/* ---- the end of a loop */

typedef struct loop {
    const program_t *program;
    guest_t guest;
    int64_t ended_ns;
} loop_t;

static void *run_loop(void *argument)
{
    loop_t *loop = argument;
    begin(loop->program, &loop->guest);
    instantiate(loop->program, &loop->guest);
    find(&loop->guest, "_start");
    wasmtime_error_t *error = wasmtime_func_call(
        loop->guest.context, &loop->guest.entry.of.func, NULL, 0, NULL, 0, &loop->guest.trap);
    __atomic_store_n(&loop->ended_ns, now_ns(), __ATOMIC_RELEASE);
    if (error == NULL)
        die("the loop ended by itself");
    wasmtime_error_delete(error);
    wasmtime_store_delete(loop->guest.store);
    return NULL;
}

/* Advances the epoch until the loop has noticed: one that had not begun yet misses the first. */
static void await_end(const loop_t *loop, pthread_t thread)
{
    const struct timespec pause = {0, 1000000};
    wasmtime_engine_increment_epoch(loop->program->engine);
    while (__atomic_load_n(&loop->ended_ns, __ATOMIC_ACQUIRE) == 0) {
        nanosleep(&pause, NULL);
        wasmtime_engine_increment_epoch(loop->program->engine);
    }
    pthread_join(thread, NULL);
}

static double late_ms(const program_t *program, int64_t deadline_ms)
{
    loop_t loop = {.program = program};
    pthread_t thread;
    loop.guest.deadline_ns = now_ns() + deadline_ms * 1000000;
    pthread_create(&thread, NULL, run_loop, &loop);
    struct timespec until = {loop.guest.deadline_ns / 1000000000,
                             loop.guest.deadline_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    await_end(&loop, thread);
    return (double)(loop.ended_ns - loop.guest.deadline_ns) / 1e6;
}

static void kill_loops(char **arguments)
{
    program_t program = load_program(arguments[0], "recycler");
    int64_t deadline_ms = atoll(arguments[1]);
    int runs = atoi(arguments[2]), others = atoi(arguments[3]), stop = 0;
    static loop_t loops[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    if (runs < 1 || runs > SAMPLES_MAX || others < 0 || others > THREADS_MAX)
        die("1 to 1000 runs beside 0 to 64 others");
    for (int i = 0; i < others; i++) {
        loops[i] = (loop_t){
            .program = &program, .guest = {.deadline_ns = INT64_MAX, .stop = &stop}};
        pthread_create(&threads[i], NULL, run_loop, &loops[i]);
    }
    printf("{\"late_ms\": [");
    for (int i = 0; i < runs; i++)
        printf("%s%.4f", i ? ", " : "", late_ms(&program, deadline_ms));
    printf("]}\n");
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < others; i++)
        await_end(&loops[i], threads[i]);
}

int main(int count, char **arguments)
{
    if (count < 3)
        die("LIBRARY fresh|warm|kill ...");
    load_library(arguments[1]);
    if (strcmp(arguments[2], "fresh") == 0 && count == 8)
        fresh(arguments + 3);
    else if (strcmp(arguments[2], "warm") == 0 && count == 6)
        warm(arguments + 3);
    else if (strcmp(arguments[2], "kill") == 0 && count == 7)
        kill_loops(arguments + 3);
    else if (strcmp(arguments[2], "parked") == 0 && count == 5)
        park_all(arguments + 3);
    else
        die("fresh WASM ALLOCATOR PATH THREADS MILLIS | warm WASM FUNCTION COUNT | "
            "kill WASM DEADLINE_MS RUNS OTHERS | parked WASM GUESTS");
    return 0;
}

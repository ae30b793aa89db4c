#define _GNU_SOURCE
#include "guestmem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define PAGE ((size_t)4096)   /* checked in gm_pool_new */
#define SHARDS_MAX 16
#define CLASSES 16            /* sizes with a free list of their own, per shard */
#define CHUNK_MEMORIES 32     /* slots reserved by one mmap */
#define CHUNK_STACKS 64
#define STACK_GUARD ((size_t)64 << 10)
#define REGIONS 128           /* ranges asked for in one scan */
#define REFRESH 256           /* releases after which a kept memory is given back once */
#define REFRESH_BYTES (16 * PAGE)
#define READ_PAGES 1024       /* entries read at once in the fallback */
#define LOOK_PAGES 16         /* at most so many are read themselves: one page of WebAssembly */
#define HOT 64                /* ... where no more releases came since its own last one */

/* ---- the scan interface of the kernel (uapi linux/fs.h, since 6.7); spelled
 *      out here because older headers lack it ---------------------------- */

struct scan_region {
    uint64_t start, end, categories;
};

struct scan_request {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, all_of, any_of, wanted;
};

#define SCAN_IOCTL _IOWR('f', 16, struct scan_request)
#define SCAN_PRESENT (1u << 3)
#define SCAN_SWAPPED (1u << 4)
#define SCAN_ZEROPAGE (1u << 5)

/* Bits of an entry of /proc/self/pagemap. */
#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_SWAPPED (1ull << 62)

/* Reading with registers this wide is quicker than a scan; with less it is not. */
typedef uint64_t wide __attribute__((vector_size(32), may_alias));
#ifdef __x86_64__
#define WIDE __attribute__((target("avx2")))
#define HAS_WIDE __builtin_cpu_supports("avx2")
#else
#define WIDE
#define HAS_WIDE true
#endif

/* ---- types ------------------------------------------------------------- */

enum { IDLE = 0, IN_USE = 1 };

struct gm_memory {
    gm_pool *pool;
    uint8_t *base;
    size_t size;          /* what the guest sees */
    size_t accessible;    /* read-write bytes: size, rounded up to pages */
    size_t class_bytes;   /* accessible at the start and when idle */
    size_t high;          /* no page at or above it is resident; >= accessible */
    size_t resident;      /* bytes that stayed resident when it went idle */
    uint32_t rounds;      /* releases since its pages were last given back */
    uint32_t released_at; /* its shard's count then */
    uint16_t kept;        /* which of the first LOOK_PAGES are known to be resident */
    gm_memory *next;
    _Atomic int state;
};

struct gm_stack {
    gm_pool *pool;
    uint8_t *top;
    gm_stack *next;
    _Atomic int state;
};

struct size_class {
    size_t bytes;
    gm_memory *head;
};

struct shard {
    alignas(64) pthread_mutex_t lock;
    struct size_class classes[CLASSES];
    gm_memory *others;    /* sizes that found no class */
    gm_stack *stacks;
    size_t idle_bytes;
    uint64_t memories_idle, stacks_idle;
    uint64_t zeroed, dropped, bytes_zeroed, adapted;
    _Atomic uint32_t releases;
};

struct gm_pool {
    gm_options o;
    size_t idle_bytes_max;       /* per shard */
    gm_clean clean;
    bool looks;                  /* small memories may be read instead of scanned */
    int pagemap;
    _Atomic int references;
    volatile uint32_t *alive;    /* a page that reads 0 in a forked child */

    pthread_mutex_t make;        /* guards what follows */
    gm_memory *memories;
    uint32_t memories_made;
    gm_stack *stacks;
    uint32_t stacks_made;
    uint8_t *memory_chunk, *stack_chunk;   /* where the next slot comes from */
    uint8_t **chunks;                      /* all reservations, for unmapping */
    size_t *chunk_bytes;
    uint32_t chunk_count;

    gm_wasmtime api;
    struct shard shards[];
};

/* ---- small helpers ----------------------------------------------------- */

static size_t round_up(size_t bytes)
{
    return (bytes + PAGE - 1) & ~(PAGE - 1);
}

static _Atomic uint32_t next_thread;
static _Thread_local uint32_t thread_number; /* 0: not yet given */

static uint32_t own_shard(const gm_pool *pool)
{
    if (!thread_number)
        thread_number = atomic_fetch_add_explicit(&next_thread, 1, memory_order_relaxed) + 1;
    return (thread_number - 1) % pool->o.shards;
}

/* The pagemap file shows the address space of whoever opened it, so a forked
 * child that went on using it would look at its parent's pages. */
static bool in_forked_child(const gm_pool *pool)
{
    return *pool->alive == 0;
}

static void *reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    /* One touched byte must cost 4 KiB, not 2 MiB; and fork need not copy
     * page tables that the child cannot use. Both only hints. */
    madvise(at, bytes, MADV_NOHUGEPAGE);
    madvise(at, bytes, MADV_DONTFORK);
    return at;
}

/* ---- finding and clearing touched pages -------------------------------- */

/* Fills `regions` with the touched ranges from *at on and moves *at to where
 * the scan ended. Returns their number or -1. */
static int scan(int pagemap, uintptr_t *at, uintptr_t end, struct scan_region *regions, size_t count)
{
    struct scan_request request = {
        .size = sizeof request,
        .start = *at,
        .end = end,
        .vec = (uintptr_t)regions,
        .vec_len = count,
        /* Present or swapped, and not the shared page of zeros. */
        .inverted = SCAN_ZEROPAGE,
        .all_of = SCAN_ZEROPAGE,
        .any_of = SCAN_PRESENT | SCAN_SWAPPED,
        .wanted = SCAN_PRESENT,
    };
    int found;
    do
        found = ioctl(pagemap, SCAN_IOCTL, &request);
    while (found < 0 && errno == EINTR);
    if (found < 0 || request.walk_end <= *at || request.walk_end > end)
        return -1;
    *at = (uintptr_t)request.walk_end;
    return found;
}

/* The same by reading the file. Cannot tell the shared page of zeros. */
static int read_entries(int pagemap, uintptr_t *at, uintptr_t end, struct scan_region *regions, size_t count)
{
    uint64_t entries[READ_PAGES];
    size_t found = 0;
    while (*at < end) {
        size_t pages = (end - *at) / PAGE;
        if (pages > READ_PAGES)
            pages = READ_PAGES;
        ssize_t got = pread(pagemap, entries, pages * 8, (off_t)(*at / PAGE * 8));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 8)
            return -1;
        pages = (size_t)got / 8;
        for (size_t i = 0; i < pages; i++, *at += PAGE) {
            if (!(entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)))
                continue;
            if (found && regions[found - 1].end == *at) {
                regions[found - 1].end += PAGE;
                continue;
            }
            if (found == count)
                return (int)found;
            regions[found].start = *at;
            regions[found].end = *at + PAGE;
            found++;
        }
    }
    return (int)found;
}

static int find_touched(gm_clean how, int pagemap, uintptr_t *at, uintptr_t end, struct scan_region *regions,
                        size_t count)
{
    return how == GM_CLEAN_SCAN ? scan(pagemap, at, end, regions, count)
                                : read_entries(pagemap, at, end, regions, count);
}

/* Proves on a few pages of our own that touched ones are found, all of them. */
static bool self_test(gm_clean how, int pagemap)
{
    uint8_t *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    madvise(p, 8 * PAGE, MADV_NOHUGEPAGE);
    bool good = false;
    struct scan_region r[4];
    uintptr_t at = (uintptr_t)p, end = at + 8 * PAGE;
    if (find_touched(how, pagemap, &at, end, r, 4) == 0 && at == end) {
        *(volatile uint8_t *)(p + PAGE) = 1;
        *(volatile uint8_t *)(p + 2 * PAGE) = 1;
        *(volatile uint8_t *)(p + 7 * PAGE) = 1;
        at = (uintptr_t)p;
        good = find_touched(how, pagemap, &at, end, r, 4) == 2 && at == end && r[0].start == (uintptr_t)p + PAGE &&
               r[0].end == r[0].start + 2 * PAGE && r[1].start == (uintptr_t)p + 7 * PAGE && r[1].end == end;
    }
    munmap(p, 8 * PAGE);
    return good;
}

/* Gives every page back. Pages beyond the accessible range hold zeros only,
 * so if that fails (locked pages refuse it) memset does. */
static void drop_all(gm_memory *m)
{
    if (m->high == 0 || madvise(m->base, m->high, MADV_DONTNEED) == 0) {
        m->resident = 0;
        m->kept = 0;
        m->high = 0;
    } else {
        memset(m->base, 0, m->accessible);
        m->resident = m->high;
    }
    m->high = m->high < m->accessible ? m->accessible : m->high;
    m->rounds = 0;
}

/* Whether a small memory is used again and again. Reading it is then quicker
 * than asking the kernel: its pages are in the caches, and those that no guest
 * wrote to are all the shared page of zeros. That page has to be mapped by a
 * first read, which costs a fault a page and page tables: not for a slot that
 * is used once in a while. */
static bool worth_a_look(gm_memory *m)
{
    struct shard *s = &m->pool->shards[own_shard(m->pool)];
    uint32_t now = atomic_fetch_add_explicit(&s->releases, 1, memory_order_relaxed) + 1;
    bool hot = now - m->released_at <= HOT;
    m->released_at = now;
    return hot && m->pool->looks && m->high == m->accessible && m->high <= LOOK_PAGES * PAGE;
}

WIDE static bool zero_page(const uint8_t *page)
{
    const wide *at = (const wide *)page;
    for (size_t i = 0; i < PAGE / sizeof *at; i += 16) {
        wide a = at[i] | at[i + 1] | at[i + 2] | at[i + 3];
        wide b = at[i + 4] | at[i + 5] | at[i + 6] | at[i + 7];
        wide c = at[i + 8] | at[i + 9] | at[i + 10] | at[i + 11];
        wide d = at[i + 12] | at[i + 13] | at[i + 14] | at[i + 15];
        wide all = a | b | c | d;
        if (all[0] | all[1] | all[2] | all[3])
            return false;
    }
    return true;
}

/* Zeroes the pages that are not zeros. One that a guest filled with zeros is
 * resident and goes uncounted until the next scan: 64 KiB a slot at most. */
static void look(gm_memory *m, size_t *zeroed)
{
    for (size_t page = 0; page * PAGE < m->high; page++) {
        uint8_t *at = m->base + page * PAGE;
        if (zero_page(at))
            continue;
        memset(at, 0, PAGE);
        *zeroed += PAGE;
        m->kept |= (uint16_t)(1u << page);
    }
    m->resident = (size_t)__builtin_popcount(m->kept) * PAGE;
}

/* Remembers what a scan found in a memory that may be looked at next time. */
static void note_kept(gm_memory *m, const struct scan_region *regions, int found)
{
    for (int i = 0; i < found; i++)
        for (size_t at = regions[i].start - (uintptr_t)m->base; at < LOOK_PAGES * PAGE; at += PAGE) {
            if (at >= regions[i].end - (uintptr_t)m->base)
                break;
            m->kept |= (uint16_t)(1u << at / PAGE);
        }
}

/* Makes the memory all zeros and sets `resident`. Returns whether touched
 * pages were zeroed in place (and not given back). */
static bool clean_memory(gm_memory *m, size_t *zeroed)
{
    gm_pool *pool = m->pool;
    *zeroed = 0;
    if (worth_a_look(m)) {
        look(m, zeroed);
        return true;
    }
    m->kept = 0;
    if (pool->clean != GM_CLEAN_DROP) {
        struct scan_region regions[REGIONS];
        const uintptr_t limit = (uintptr_t)m->base + m->accessible, end = (uintptr_t)m->base + m->high;
        uintptr_t at = (uintptr_t)m->base;
        size_t touched = 0, top = 0;
        while (at < end) {
            int found = find_touched(pool->clean, pool->pagemap, &at, end, regions, REGIONS);
            if (found < 0)
                break;
            if (found)
                top = regions[found - 1].end - (uintptr_t)m->base;
            for (int i = 0; i < found; i++)
                touched += regions[i].end - regions[i].start;
            if (touched > pool->o.keep_bytes_max)
                break;
            note_kept(m, regions, found);
            for (int i = 0; i < found && regions[i].start < limit; i++) {
                size_t bytes = (regions[i].end < limit ? regions[i].end : limit) - regions[i].start;
                memset((void *)(uintptr_t)regions[i].start, 0, bytes);
                *zeroed += bytes;
            }
        }
        /* All that is resident costs a memset each time, also what only some
         * earlier guest needed. Starting over now and then sheds it. */
        bool stale = ++m->rounds >= REFRESH && touched > REFRESH_BYTES;
        if (at == end && touched <= pool->o.keep_bytes_max && !stale) {
            m->resident = touched;
            m->high = top;   /* the caller raises it to `accessible` */
            return true;
        }
    }
    drop_all(m);
    return false;
}

/* ---- memories ---------------------------------------------------------- */

static int set_accessible(gm_memory *m, size_t bytes)
{
    if (bytes > m->accessible) {
        if (mprotect(m->base + m->accessible, bytes - m->accessible, PROT_READ | PROT_WRITE))
            return -errno;
    } else if (bytes < m->accessible) {
        if (mprotect(m->base + bytes, m->accessible - bytes, PROT_NONE))
            return -errno;
    }
    m->accessible = bytes;
    if (m->high < bytes)
        m->high = bytes;
    return 0;
}

static gm_memory **list_of(struct shard *s, size_t bytes, bool make)
{
    struct size_class *spare = NULL;
    for (int i = 0; i < CLASSES; i++) {
        struct size_class *c = &s->classes[i];
        if (c->head && c->bytes == bytes)
            return &c->head;
        if (!c->head && !spare)
            spare = c;
    }
    if (!make)
        return NULL;
    if (!spare)
        return &s->others;
    spare->bytes = bytes;
    return &spare->head;
}

static gm_memory *pop(struct shard *s, gm_memory **list)
{
    gm_memory *m = *list;
    *list = m->next;
    s->idle_bytes -= m->resident;
    s->memories_idle--;
    return m;
}

static gm_memory *pop_class(struct shard *s, size_t bytes)
{
    gm_memory **list = list_of(s, bytes, false);
    return list ? pop(s, list) : NULL;
}

static gm_memory *pop_any(struct shard *s)
{
    if (s->others)
        return pop(s, &s->others);
    for (int i = 0; i < CLASSES; i++)
        if (s->classes[i].head)
            return pop(s, &s->classes[i].head);
    return NULL;
}

/* Looks in every shard, our own first; another's only if its lock is free. */
static gm_memory *take_idle(gm_pool *pool, size_t bytes, bool any, bool wait)
{
    uint32_t own = own_shard(pool);
    for (uint32_t i = 0; i < pool->o.shards; i++) {
        struct shard *s = &pool->shards[(own + i) % pool->o.shards];
        if (i == 0 || wait)
            pthread_mutex_lock(&s->lock);
        else if (pthread_mutex_trylock(&s->lock))
            continue;
        gm_memory *m = any ? pop_any(s) : pop_class(s, bytes);
        pthread_mutex_unlock(&s->lock);
        if (m)
            return m;
    }
    return NULL;
}

static uint8_t *new_chunk(gm_pool *pool, size_t bytes)
{
    uint8_t *at = reserve(bytes);
    if (at) {
        pool->chunks[pool->chunk_count] = at;
        pool->chunk_bytes[pool->chunk_count++] = bytes;
    }
    return at;
}

static gm_memory *make_memory(gm_pool *pool)
{
    gm_memory *m = NULL;
    pthread_mutex_lock(&pool->make);
    if (pool->memories_made < pool->o.memories_max) {
        size_t stride = pool->o.reservation_bytes + pool->o.guard_bytes;
        uint32_t in_chunk = pool->memories_made % CHUNK_MEMORIES;
        /* A guard before the first one too. */
        if (in_chunk == 0)
            pool->memory_chunk = new_chunk(pool, pool->o.guard_bytes + CHUNK_MEMORIES * stride);
        if (pool->memory_chunk) {
            m = &pool->memories[pool->memories_made++];
            m->pool = pool;
            m->base = pool->memory_chunk + pool->o.guard_bytes + in_chunk * stride;
        }
    }
    pthread_mutex_unlock(&pool->make);
    return m;
}

enum outcome { UNUSED, ZEROED, DROPPED };

static void put_idle(gm_memory *m, enum outcome outcome, size_t zeroed)
{
    struct shard *s = &m->pool->shards[own_shard(m->pool)];
    pthread_mutex_lock(&s->lock);
    if (m->resident && s->idle_bytes + m->resident > m->pool->idle_bytes_max) {
        pthread_mutex_unlock(&s->lock);
        drop_all(m);
        outcome = DROPPED;
        pthread_mutex_lock(&s->lock);
    }
    gm_memory **list = list_of(s, m->class_bytes, true);
    m->next = *list;
    *list = m;
    s->idle_bytes += m->resident;
    s->memories_idle++;
    s->zeroed += outcome == ZEROED;
    s->dropped += outcome == DROPPED;
    s->bytes_zeroed += zeroed;
    pthread_mutex_unlock(&s->lock);
}

int gm_memory_acquire(gm_pool *pool, size_t minimum, gm_memory **out)
{
    *out = NULL;
    if (minimum > pool->o.reservation_bytes)
        return -EINVAL;
    if (in_forked_child(pool))
        return -EOWNERDEAD;
    size_t bytes = round_up(minimum);
    gm_memory *m = take_idle(pool, bytes, false, false);
    if (!m)
        m = make_memory(pool);
    if (!m)
        m = take_idle(pool, bytes, false, true);
    if (!m)
        m = take_idle(pool, bytes, true, true);
    if (!m)
        return -ENOMEM;
    m->class_bytes = bytes;
    if (m->accessible != bytes) {
        size_t before = m->accessible;
        int error = set_accessible(m, bytes);
        if (error) {
            m->class_bytes = before;
            put_idle(m, UNUSED, 0);
            return error;
        }
        struct shard *s = &pool->shards[own_shard(pool)];
        pthread_mutex_lock(&s->lock);
        s->adapted++;
        pthread_mutex_unlock(&s->lock);
    }
    m->size = minimum;
    atomic_store_explicit(&m->state, IN_USE, memory_order_relaxed);
    *out = m;
    return 0;
}

int gm_memory_grow(gm_memory *m, size_t size)
{
    if (size > m->pool->o.reservation_bytes)
        return -EINVAL;
    if (size < m->size)
        return -EINVAL;
    size_t bytes = round_up(size);
    if (bytes > m->accessible) {
        int error = set_accessible(m, bytes);
        if (error)
            return error;
    }
    m->size = size;
    return 0;
}

void gm_memory_release(gm_memory *m)
{
    if (!m || in_forked_child(m->pool))
        return;
    if (atomic_exchange_explicit(&m->state, IDLE, memory_order_relaxed) != IN_USE) {
        fputs("guestmem: a memory was released twice\n", stderr);
        abort();
    }
    size_t zeroed;
    enum outcome outcome = clean_memory(m, &zeroed) ? ZEROED : DROPPED;
    if (m->accessible > m->class_bytes && set_accessible(m, m->class_bytes)) {
        /* It cannot be shrunk now: the next user of this slot has to do it. */
        m->class_bytes = m->accessible;
    }
    if (outcome == DROPPED && m->resident == 0)
        m->high = 0;
    if (m->high < m->accessible)
        m->high = m->accessible;
    m->size = 0;
    put_idle(m, outcome, zeroed);
}

uint8_t *gm_memory_base(const gm_memory *m) { return m->base; }
size_t gm_memory_size(const gm_memory *m) { return m->size; }
size_t gm_memory_capacity(const gm_memory *m) { return m->pool->o.reservation_bytes; }

/* ---- stacks ------------------------------------------------------------ */

static gm_stack *take_stack(gm_pool *pool, bool wait)
{
    uint32_t own = own_shard(pool);
    for (uint32_t i = 0; i < pool->o.shards; i++) {
        struct shard *s = &pool->shards[(own + i) % pool->o.shards];
        if (i == 0 || wait)
            pthread_mutex_lock(&s->lock);
        else if (pthread_mutex_trylock(&s->lock))
            continue;
        gm_stack *k = s->stacks;
        if (k) {
            s->stacks = k->next;
            s->stacks_idle--;
        }
        pthread_mutex_unlock(&s->lock);
        if (k)
            return k;
    }
    return NULL;
}

static gm_stack *make_stack(gm_pool *pool)
{
    gm_stack *k = NULL;
    pthread_mutex_lock(&pool->make);
    if (pool->stacks_made < pool->o.stacks_max) {
        size_t stride = STACK_GUARD + pool->o.stack_bytes;
        uint32_t in_chunk = pool->stacks_made % CHUNK_STACKS;
        if (in_chunk == 0)
            pool->stack_chunk = new_chunk(pool, CHUNK_STACKS * stride);
        uint8_t *low = pool->stack_chunk ? pool->stack_chunk + in_chunk * stride + STACK_GUARD : NULL;
        if (low && mprotect(low, pool->o.stack_bytes, PROT_READ | PROT_WRITE) == 0) {
            k = &pool->stacks[pool->stacks_made++];
            k->pool = pool;
            k->top = low + pool->o.stack_bytes;
        } else if (low && in_chunk == 0) {
            /* Nothing of the new chunk is used yet: do not reserve it again. */
            pool->chunk_count--;
            munmap(pool->stack_chunk, CHUNK_STACKS * stride);
        }
    }
    pthread_mutex_unlock(&pool->make);
    return k;
}

int gm_stack_acquire(gm_pool *pool, size_t size, gm_stack **out)
{
    *out = NULL;
    if (size > pool->o.stack_bytes)
        return -EINVAL;
    if (in_forked_child(pool))
        return -EOWNERDEAD;
    gm_stack *k = take_stack(pool, false);
    if (!k)
        k = make_stack(pool);
    if (!k)
        k = take_stack(pool, true);
    if (!k)
        return -ENOMEM;
    atomic_store_explicit(&k->state, IN_USE, memory_order_relaxed);
    *out = k;
    return 0;
}

void gm_stack_release(gm_stack *k)
{
    if (!k || in_forked_child(k->pool))
        return;
    if (atomic_exchange_explicit(&k->state, IDLE, memory_order_relaxed) != IN_USE) {
        fputs("guestmem: a stack was released twice\n", stderr);
        abort();
    }
    struct shard *s = &k->pool->shards[own_shard(k->pool)];
    pthread_mutex_lock(&s->lock);
    k->next = s->stacks;
    s->stacks = k;
    s->stacks_idle++;
    pthread_mutex_unlock(&s->lock);
}

uint8_t *gm_stack_top(const gm_stack *k, size_t *len)
{
    *len = k->pool->o.stack_bytes;
    return k->top;
}

/* ---- the pool ---------------------------------------------------------- */

static void *table(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void choose_clean(gm_pool *pool)
{
    gm_clean asked = pool->o.clean;
    pool->clean = GM_CLEAN_DROP;
    pool->pagemap = -1;
    if (asked == GM_CLEAN_DROP)
        return;
    pool->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pool->pagemap < 0)
        return;
    if (asked != GM_CLEAN_READ && self_test(GM_CLEAN_SCAN, pool->pagemap))
        pool->clean = GM_CLEAN_SCAN;
    else if (asked != GM_CLEAN_SCAN && self_test(GM_CLEAN_READ, pool->pagemap))
        pool->clean = GM_CLEAN_READ;
    pool->looks = pool->clean == GM_CLEAN_SCAN && HAS_WIDE;
}

static void say(char *why, size_t len, const char *text)
{
    if (why && len)
        snprintf(why, len, "%s", text);
}

#define DEFAULT(field, value)                                                                                          \
    do {                                                                                                               \
        if (!o.field)                                                                                                  \
            o.field = (value);                                                                                         \
    } while (0)

gm_pool *gm_pool_new(const gm_options *options, char *why, size_t why_len)
{
    gm_options o = options ? *options : (gm_options){0};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    DEFAULT(reservation_bytes, (size_t)4 << 30);
    DEFAULT(guard_bytes, (size_t)32 << 20);
    DEFAULT(memories_max, 1000);
    DEFAULT(stacks_max, 1000);
    DEFAULT(stack_bytes, (size_t)1 << 20);
    DEFAULT(keep_bytes_max, (size_t)4 << 20);
    DEFAULT(idle_bytes_max, (size_t)256 << 20);
    DEFAULT(shards, cpus < 1 ? 1 : (uint32_t)cpus);
    if (o.shards > SHARDS_MAX)
        o.shards = SHARDS_MAX;
    o.reservation_bytes = round_up(o.reservation_bytes);
    o.guard_bytes = round_up(o.guard_bytes);
    o.stack_bytes = round_up(o.stack_bytes);
    if (sysconf(_SC_PAGESIZE) != (long)PAGE) {
        say(why, why_len, "only hosts with pages of 4 KiB are supported");
        return NULL;
    }
    gm_pool *pool = NULL;
    size_t bytes = sizeof *pool + o.shards * sizeof pool->shards[0];
    if (posix_memalign((void **)&pool, alignof(struct shard), bytes)) {
        say(why, why_len, "out of memory");
        return NULL;
    }
    memset(pool, 0, bytes);
    pool->o = o;
    pool->idle_bytes_max = o.idle_bytes_max / o.shards;
    pool->pagemap = -1;
    atomic_init(&pool->references, 1);
    pthread_mutex_init(&pool->make, NULL);
    for (uint32_t i = 0; i < o.shards; i++)
        pthread_mutex_init(&pool->shards[i].lock, NULL);
    size_t chunks = o.memories_max / CHUNK_MEMORIES + o.stacks_max / CHUNK_STACKS + 2;
    pool->memories = table(o.memories_max * sizeof *pool->memories);
    pool->stacks = table(o.stacks_max * sizeof *pool->stacks);
    pool->chunks = calloc(chunks, sizeof *pool->chunks);
    pool->chunk_bytes = calloc(chunks, sizeof *pool->chunk_bytes);
    pool->alive = table(PAGE);
    if (!pool->memories || !pool->stacks || !pool->chunks || !pool->chunk_bytes || !pool->alive ||
        madvise((void *)(uintptr_t)pool->alive, PAGE, MADV_WIPEONFORK)) {
        say(why, why_len, "out of memory, or a kernel before 4.14");
        gm_pool_release(pool);
        return NULL;
    }
    *pool->alive = 1;
    choose_clean(pool);
    return pool;
}

void gm_pool_retain(gm_pool *pool)
{
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
}

void gm_pool_release(gm_pool *pool)
{
    if (!pool || atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) != 1)
        return;
    bool child = pool->alive && in_forked_child(pool);
    for (uint32_t i = 0; i < pool->chunk_count && !child; i++)
        munmap(pool->chunks[i], pool->chunk_bytes[i]);
    if (pool->memories)
        munmap(pool->memories, pool->o.memories_max * sizeof *pool->memories);
    if (pool->stacks)
        munmap(pool->stacks, pool->o.stacks_max * sizeof *pool->stacks);
    if (pool->alive)
        munmap((void *)(uintptr_t)pool->alive, PAGE);
    free(pool->chunks);
    free(pool->chunk_bytes);
    if (pool->pagemap >= 0)
        close(pool->pagemap);
    for (uint32_t i = 0; i < pool->o.shards; i++)
        pthread_mutex_destroy(&pool->shards[i].lock);
    pthread_mutex_destroy(&pool->make);
    free(pool);
}

gm_clean gm_pool_clean(const gm_pool *pool) { return pool->clean; }

void gm_pool_stats(gm_pool *pool, gm_stats *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&pool->make);
    out->memories_made = pool->memories_made;
    out->stacks_made = pool->stacks_made;
    pthread_mutex_unlock(&pool->make);
    for (uint32_t i = 0; i < pool->o.shards; i++) {
        struct shard *s = &pool->shards[i];
        pthread_mutex_lock(&s->lock);
        out->memories_idle += s->memories_idle;
        out->stacks_idle += s->stacks_idle;
        out->idle_bytes += s->idle_bytes;
        out->zeroed += s->zeroed;
        out->dropped += s->dropped;
        out->bytes_zeroed += s->bytes_zeroed;
        out->adapted += s->adapted;
        pthread_mutex_unlock(&s->lock);
    }
}

static void trim_list(struct shard *s, gm_memory *m)
{
    for (; m; m = m->next) {
        s->idle_bytes -= m->resident;
        drop_all(m);
        s->idle_bytes += m->resident;
    }
}

void gm_pool_trim(gm_pool *pool)
{
    if (in_forked_child(pool))
        return;
    for (uint32_t i = 0; i < pool->o.shards; i++) {
        struct shard *s = &pool->shards[i];
        pthread_mutex_lock(&s->lock);
        for (int c = 0; c < CLASSES; c++)
            trim_list(s, s->classes[c].head);
        trim_list(s, s->others);
        for (gm_stack *k = s->stacks; k; k = k->next)
            madvise(k->top - pool->o.stack_bytes, pool->o.stack_bytes, MADV_DONTNEED);
        pthread_mutex_unlock(&s->lock);
    }
}

/* ---- Wasmtime ---------------------------------------------------------- */

/* The structs of the C API (config.h, async.h), by layout. */

typedef struct wasmtime_error *(*grow_callback)(void *env, size_t size);

struct linear_memory {
    void *env;
    uint8_t *(*get)(void *env, size_t *size, size_t *capacity);
    grow_callback grow;
    void (*finalizer)(void *env);
};

struct memory_creator {
    void *env;
    struct wasmtime_error *(*create)(void *env, const void *type, size_t minimum, size_t maximum, size_t reserved,
                                     size_t guard, struct linear_memory *out);
    void (*finalizer)(void *env);
};

struct stack_memory {
    void *env;
    uint8_t *(*get)(void *env, size_t *len);
    void (*finalizer)(void *env);
};

struct stack_creator {
    void *env;
    struct wasmtime_error *(*create)(void *env, size_t size, bool zeroed, struct stack_memory *out);
    void (*finalizer)(void *env);
};

static struct wasmtime_error *fail(gm_pool *pool, const char *what, int error)
{
    char text[200];
    const char *why = error == -EOWNERDEAD ? "this process is a fork of the one that made the pool"
                      : error == -ENOMEM   ? "all are in use, or the kernel refused (vm.max_map_count, memory)"
                                           : strerror(-error);
    snprintf(text, sizeof text, "%s: %s", what, why);
    return pool->api.error_new(text);
}

static uint8_t *on_get_memory(void *env, size_t *size, size_t *capacity)
{
    const gm_memory *m = env;
    *size = m->size;
    *capacity = m->pool->o.reservation_bytes;
    return m->base;
}

static struct wasmtime_error *on_grow(void *env, size_t size)
{
    gm_memory *m = env;
    int error = gm_memory_grow(m, size);
    return error ? fail(m->pool, "guest memory cannot grow", error) : NULL;
}

static void on_drop_memory(void *env) { gm_memory_release(env); }

static struct wasmtime_error *on_new_memory(void *env, const void *type, size_t minimum, size_t maximum,
                                            size_t reserved, size_t guard, struct linear_memory *out)
{
    (void)type;
    (void)maximum;
    gm_pool *pool = env;
    /* Compiled code leaves bounds checks out on the strength of these two. */
    if (reserved > pool->o.reservation_bytes || guard > pool->o.guard_bytes)
        return pool->api.error_new("guest memory: the engine reserves more than the slots of the pool have");
    gm_memory *m;
    int error = gm_memory_acquire(pool, minimum, &m);
    if (error)
        return fail(pool, "no guest memory", error);
    *out = (struct linear_memory){m, on_get_memory, on_grow, on_drop_memory};
    return NULL;
}

static uint8_t *on_get_stack(void *env, size_t *len) { return gm_stack_top(env, len); }
static void on_drop_stack(void *env) { gm_stack_release(env); }

static struct wasmtime_error *on_new_stack(void *env, size_t size, bool zeroed, struct stack_memory *out)
{
    gm_pool *pool = env;
    if (zeroed)
        return pool->api.error_new("guest stack: zeroed stacks are not offered");
    gm_stack *k;
    int error = gm_stack_acquire(pool, size, &k);
    if (error)
        return fail(pool, "no guest stack", error);
    *out = (struct stack_memory){k, on_get_stack, on_drop_stack};
    return NULL;
}

static void on_drop_creator(void *env) { gm_pool_release(env); }

void gm_install(gm_pool *pool, struct wasm_config_t *config, const gm_wasmtime *api)
{
    pool->api = *api;
    gm_pool_retain(pool);
    struct memory_creator memories = {pool, on_new_memory, on_drop_creator};
    api->host_memory_creator_set(config, &memories);
    gm_pool_retain(pool);
    struct stack_creator stacks = {pool, on_new_stack, on_drop_creator};
    api->host_stack_creator_set(config, &stacks);
    api->memory_init_cow_set(config, false);
}

# cython: language_level=3
"""Memory of stored values: blocks by size class, large ones recycled while their pages are warm.

Rule: no Python and no lock in here; what goes back to the system is only marked (`doomed`), the
owner unmaps it after it has unlocked, since unmapping 64 MiB takes a millisecond.

Three sizes, three ways. Up to 8 KiB: 64 KiB chunks of equal blocks in 2 MiB regions (huge pages
from the second region on). Up to 128 KiB: malloc, which is good at it. Above: own mappings that
are kept when given back, up to `recycled_max` bytes, the oldest leaving first: a fresh page costs
0.35 ns a byte to touch, a warm one 0.05.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/mman.h>
    #if defined(__SANITIZE_ADDRESS__)
    #include <sanitizer/asan_interface.h>
    #define spear_poison(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
    #define spear_unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
    #else
    #define spear_poison(p, n) ((void)(p), (void)(n))
    #define spear_unpoison(p, n) ((void)(p), (void)(n))
    #endif

    /* Pages aligned to `align` (0: any); NULL when the system has none. Cython cannot say
       MAP_FAILED and the casts of the trimming without more words than C. */
    static void *spear_map(size_t size, size_t align, int huge) {
        char *raw = mmap(NULL, size + align, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw == MAP_FAILED) return NULL;
        if (align) {
            char *start = (char *)(((uintptr_t)raw + align - 1) & ~(uintptr_t)(align - 1));
            size_t head = (size_t)(start - raw);
            if (head) munmap(raw, head);
            if (align - head) munmap(start + size, align - head);
            raw = start;
        }
    #ifdef MADV_HUGEPAGE
        if (huge) madvise(raw, size, MADV_HUGEPAGE);
    #endif
        return raw;
    }
    """
    void *spear_map(size_t size, size_t align, int huge) noexcept nogil
    void spear_poison(void *start, size_t size) noexcept nogil
    void spear_unpoison(void *start, size_t size) noexcept nogil
    int munmap(void *start, size_t size) noexcept nogil
    int __builtin_clzll(uint64_t value) noexcept nogil
    int __builtin_ctz(uint32_t value) noexcept nogil

cdef extern from *:
    """
    #define SMALL_SHIFT 6
    #define SMALL_MAX ((size_t)8192)
    #define MIDDLE_SHIFT 17
    #define MIDDLE_MAX ((size_t)131072)
    #define HUGE_MIN ((size_t)4 << 20)
    #define LARGE_MAX ((size_t)4 << 40)
    #define CHUNK_BYTES ((size_t)65536)
    #define CHUNK_HEAD_BYTES 128
    #define REGION_BYTES ((size_t)2 << 20)
    #define ALL_FREE UINT32_MAX
    """
    const int SMALL_SHIFT, MIDDLE_SHIFT
    const size_t SMALL_MAX, MIDDLE_MAX, HUGE_MIN, LARGE_MAX
    const size_t CHUNK_BYTES, REGION_BYTES
    const uint32_t CHUNK_HEAD_BYTES, ALL_FREE


cdef inline int size_class(size_t size, int low, int steps_log2) noexcept nogil:
    """Class of a size above 2**low, counted in 2**steps_log2 equal steps a doubling."""
    cdef int top = 63 - __builtin_clzll(size - 1)
    cdef size_t step = (size - 1 - (<size_t>1 << top)) >> (top - steps_log2)
    return ((top - low) << steps_log2) + <int>step


cdef inline size_t class_bytes(int klass, int low, int steps_log2) noexcept nogil:
    cdef int top = low + (klass >> steps_log2)
    cdef size_t step = (klass & ((1 << steps_log2) - 1)) + 1
    return (<size_t>1 << top) + (step << (top - steps_log2))


cdef inline int small_class(size_t size) noexcept nogil:
    return 0 if size <= 64 else size_class(size, SMALL_SHIFT, 2) + 1


cdef inline size_t small_bytes(int klass) noexcept nogil:
    return 64 if klass == 0 else class_bytes(klass - 1, SMALL_SHIFT, 2)


cdef inline Chunk *chunk_of(void *block) noexcept nogil:
    return <Chunk *>(<size_t>block & ~(CHUNK_BYTES - 1))


cdef inline Region *region_of(void *block) noexcept nogil:
    return <Region *>(<size_t>block & ~(REGION_BYTES - 1))


cdef void pool_init(BlockPool *pool, uint64_t recycled_max) noexcept nogil:
    memset(pool, 0, sizeof(BlockPool))
    pool.recycled_max = recycled_max


cdef void *pool_take(BlockPool *pool, size_t size) noexcept nogil:
    """A block of at least `size` bytes, 16-byte aligned; NULL when the system has no memory."""
    if size <= SMALL_MAX:
        return small_take(pool, small_class(size), size)
    if size <= MIDDLE_MAX:
        return malloc(size)
    return large_take(pool, size)


cdef void pool_give(BlockPool *pool, void *block, size_t size) noexcept nogil:
    """Takes a block back; `size` is the one it was taken with."""
    if size <= SMALL_MAX:
        small_give(pool, block)
    elif size <= MIDDLE_MAX:
        free(block)
    else:
        large_give(pool, <FreeBlock *>block, size)


# Small blocks: regions, chunks, blocks.

cdef void region_link(BlockPool *pool, Region *region) noexcept nogil:
    region.prev = NULL
    region.next = pool.regions
    if pool.regions != NULL:
        pool.regions.prev = region
    pool.regions = region


cdef void region_unlink(BlockPool *pool, Region *region) noexcept nogil:
    if region.prev != NULL:
        region.prev.next = region.next
    else:
        pool.regions = region.next
    if region.next != NULL:
        region.next.prev = region.prev


cdef Region *region_new(BlockPool *pool) noexcept nogil:
    # The first region stays on small pages, so that a small store stays small.
    cdef Region *region = <Region *>spear_map(REGION_BYTES, REGION_BYTES, pool.mapped != 0)
    if region == NULL:
        return NULL
    region.chunks_free = ALL_FREE
    pool.mapped += REGION_BYTES
    pool.regions_idle += 1
    region_link(pool, region)
    return region


cdef Chunk *chunk_new(BlockPool *pool, int klass) noexcept nogil:
    cdef Region *region = pool.regions if pool.regions != NULL else region_new(pool)
    cdef int index
    cdef Chunk *chunk
    if region == NULL:
        return NULL
    if region.chunks_free == ALL_FREE:
        pool.regions_idle -= 1
    index = __builtin_ctz(region.chunks_free)
    region.chunks_free &= region.chunks_free - 1
    if region.chunks_free == 0:
        region_unlink(pool, region)
    chunk = <Chunk *>(<char *>region + <size_t>index * CHUNK_BYTES)
    chunk.free = NULL
    chunk.fresh = CHUNK_HEAD_BYTES
    chunk.taken = 0
    chunk.block_bytes = <uint32_t>small_bytes(klass)
    chunk.klass = klass
    spear_poison(<char *>chunk + CHUNK_HEAD_BYTES, CHUNK_BYTES - CHUNK_HEAD_BYTES)
    chunk_link(pool, chunk)
    return chunk


cdef void chunk_drop(BlockPool *pool, Chunk *chunk) noexcept nogil:
    cdef Region *region = region_of(chunk)
    cdef uint32_t index = <uint32_t>((<size_t>chunk - <size_t>region) // CHUNK_BYTES)
    if region.chunks_free == 0:
        region_link(pool, region)
    region.chunks_free |= <uint32_t>1 << index
    if region.chunks_free == ALL_FREE:
        if pool.regions_idle:
            region_unlink(pool, region)
            doom(pool, <FreeBlock *>region, REGION_BYTES)
        else:
            pool.regions_idle += 1


cdef inline void chunk_link(BlockPool *pool, Chunk *chunk) noexcept nogil:
    chunk.prev = NULL
    chunk.next = pool.room[chunk.klass]
    if chunk.next != NULL:
        chunk.next.prev = chunk
    pool.room[chunk.klass] = chunk


cdef inline void chunk_unlink(BlockPool *pool, Chunk *chunk) noexcept nogil:
    if chunk.prev != NULL:
        chunk.prev.next = chunk.next
    else:
        pool.room[chunk.klass] = chunk.next
    if chunk.next != NULL:
        chunk.next.prev = chunk.prev


cdef inline bint chunk_is_full(Chunk *chunk) noexcept nogil:
    return chunk.free == NULL and chunk.fresh + chunk.block_bytes > CHUNK_BYTES


cdef void *small_take(BlockPool *pool, int klass, size_t size) noexcept nogil:
    cdef Chunk *chunk = pool.room[klass]
    cdef void *block
    if chunk == NULL:
        chunk = chunk_new(pool, klass)
        if chunk == NULL:
            return NULL
    if chunk.free != NULL:
        block = chunk.free
        spear_unpoison(block, sizeof(void *))
        chunk.free = (<void **>block)[0]
    else:
        block = <char *>chunk + chunk.fresh
        chunk.fresh += chunk.block_bytes
    spear_unpoison(block, size)
    chunk.taken += 1
    if chunk_is_full(chunk):
        chunk_unlink(pool, chunk)
    return block


cdef void small_give(BlockPool *pool, void *block) noexcept nogil:
    cdef Chunk *chunk = chunk_of(block)
    if chunk_is_full(chunk):
        chunk_link(pool, chunk)
    (<void **>block)[0] = chunk.free
    chunk.free = block
    spear_poison(block, chunk.block_bytes)
    chunk.taken -= 1
    # The last chunk of a class stays: a lone object written again and again must not map pages.
    if chunk.taken == 0 and (chunk.next != NULL or chunk.prev != NULL):
        chunk_unlink(pool, chunk)
        chunk_drop(pool, chunk)


# Large blocks: mappings, kept when given back.

cdef void *large_take(BlockPool *pool, size_t size) noexcept nogil:
    cdef int klass
    cdef FreeBlock *block
    cdef size_t block_bytes
    if size > LARGE_MAX:
        return NULL
    klass = size_class(size, MIDDLE_SHIFT, 3)
    block = pool.large[klass]
    if block != NULL:
        rest_leave(pool, block)
        pool.recycles += 1
        spear_unpoison(block, block.block_bytes)
        return block
    block_bytes = class_bytes(klass, MIDDLE_SHIFT, 3)
    block = <FreeBlock *>spear_map(
        block_bytes, REGION_BYTES if size >= HUGE_MIN else 0, size >= HUGE_MIN
    )
    if block != NULL:
        pool.mapped += block_bytes
    return block


cdef void large_give(BlockPool *pool, FreeBlock *block, size_t size) noexcept nogil:
    cdef int klass = size_class(size, MIDDLE_SHIFT, 3)
    cdef size_t block_bytes = class_bytes(klass, MIDDLE_SHIFT, 3)
    if block_bytes > pool.recycled_max:
        doom(pool, block, block_bytes)
        return
    pool_trim(pool, pool.recycled_max - block_bytes)
    block.block_bytes = block_bytes
    block.klass = klass
    block.prev = NULL
    block.next = pool.large[klass]
    if block.next != NULL:
        block.next.prev = block
    pool.large[klass] = block
    block.newer = NULL
    block.older = pool.newest
    if pool.newest != NULL:
        pool.newest.newer = block
    else:
        pool.oldest = block
    pool.newest = block
    pool.recycled += block_bytes
    spear_poison(<char *>block + sizeof(FreeBlock), block_bytes - sizeof(FreeBlock))


cdef void rest_leave(BlockPool *pool, FreeBlock *block) noexcept nogil:
    if block.prev != NULL:
        block.prev.next = block.next
    else:
        pool.large[block.klass] = block.next
    if block.next != NULL:
        block.next.prev = block.prev
    if block.newer != NULL:
        block.newer.older = block.older
    else:
        pool.newest = block.older
    if block.older != NULL:
        block.older.newer = block.newer
    else:
        pool.oldest = block.newer
    pool.recycled -= block.block_bytes


cdef void doom(BlockPool *pool, FreeBlock *block, size_t block_bytes) noexcept nogil:
    spear_unpoison(block, block_bytes)
    block.block_bytes = block_bytes
    block.next = pool.doomed
    pool.doomed = block
    pool.mapped -= block_bytes


cdef void pool_trim(BlockPool *pool, uint64_t recycled_max) noexcept nogil:
    """Marks the oldest blocks at rest for the system until at most `recycled_max` bytes rest."""
    cdef FreeBlock *block
    while pool.recycled > recycled_max:
        block = pool.oldest
        rest_leave(pool, block)
        doom(pool, block, block.block_bytes)


cdef FreeBlock *pool_doomed(BlockPool *pool) noexcept nogil:
    """Takes what must be unmapped; the caller passes it to `pool_unmap` without the lock."""
    cdef FreeBlock *doomed = pool.doomed
    pool.doomed = NULL
    return doomed


cdef void pool_unmap(FreeBlock *doomed) noexcept nogil:
    cdef FreeBlock *block
    while doomed != NULL:
        block = doomed
        doomed = block.next
        munmap(block, block.block_bytes)


cdef void pool_close(BlockPool *pool) noexcept nogil:
    """Gives all pages back; every block must have come back before."""
    cdef int klass
    cdef Region *region
    for klass in range(POOL_SMALL_CLASSES):
        if pool.room[klass] != NULL:
            chunk_drop(pool, pool.room[klass])
            pool.room[klass] = NULL
    while pool.regions != NULL:
        region = pool.regions
        region_unlink(pool, region)
        doom(pool, <FreeBlock *>region, REGION_BYTES)
    pool_trim(pool, 0)
    pool_unmap(pool_doomed(pool))

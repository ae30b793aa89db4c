"""The contract of the block memory: take a block, give it back with the size it was taken with.

Rule: not thread-safe, the owner's lock guards every call but `pool_unmap`; no Python inside.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    POOL_SMALL_CLASSES = 29    # 64 B to 8 KiB, four steps a doubling
    POOL_LARGE_CLASSES = 200   # 144 KiB to 4 TiB, eight steps a doubling


cdef struct Region:
    # 2 MiB of pages, cut into 32 chunks; this head lies in its first chunk.
    Region *next
    Region *prev
    uint32_t chunks_free       # bit i: chunk i is free


cdef struct Chunk:
    # 64 KiB of blocks of one class; this head lies at its start.
    Region region              # meant only in the first chunk of a region
    Chunk *next                # chunks of the class that have room
    Chunk *prev
    void *free                 # blocks given back
    uint32_t fresh             # offset of the first block never taken
    uint32_t taken
    uint32_t block_bytes
    uint32_t klass


cdef struct FreeBlock:
    # A large block at rest: it waits for a taker, or for pool_unmap.
    FreeBlock *next            # of its class
    FreeBlock *prev
    FreeBlock *newer           # of all, by the time of giving back
    FreeBlock *older
    size_t block_bytes
    uint32_t klass


cdef struct BlockPool:
    uint64_t recycled_max      # bytes; the owner sets it
    uint64_t recycled          # bytes of large blocks at rest
    uint64_t mapped            # bytes of pages taken from the system (malloc's not included)
    uint64_t recycles          # large blocks served without new pages
    uint32_t regions_idle      # regions wholly free, kept: at most one
    Region *regions            # regions with a free chunk
    Chunk *room[POOL_SMALL_CLASSES]
    FreeBlock *large[POOL_LARGE_CLASSES]
    FreeBlock *newest
    FreeBlock *oldest
    FreeBlock *doomed          # to be unmapped once the owner has unlocked


cdef void pool_init(BlockPool *pool, uint64_t recycled_max) noexcept nogil
cdef void *pool_take(BlockPool *pool, size_t size) noexcept nogil
cdef void pool_give(BlockPool *pool, void *block, size_t size) noexcept nogil
cdef void pool_trim(BlockPool *pool, uint64_t recycled_max) noexcept nogil
cdef FreeBlock *pool_doomed(BlockPool *pool) noexcept nogil
cdef void pool_unmap(FreeBlock *doomed) noexcept nogil
cdef void pool_close(BlockPool *pool) noexcept nogil

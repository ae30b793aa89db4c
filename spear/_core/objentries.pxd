"""The contract of the table's parts: what an object is made of, and how it is found and counted.

Rule: all but `lock` and `blob_release` need the table's lock; the short ones that every call takes
are inline, so that the modules above pay no call for them.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from spear._core.blockpool cimport BlockPool, FreeBlock, pool_doomed, pool_unmap
from spear._core.keyindex cimport IndexNode, KeyIndex


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *lock, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *lock)
    int pthread_mutex_lock(pthread_mutex_t *lock)
    int pthread_mutex_trylock(pthread_mutex_t *lock)
    int pthread_mutex_unlock(pthread_mutex_t *lock)

cdef extern from *:
    int64_t __atomic_fetch_add(int64_t *at, int64_t value, int order) noexcept nogil
    int64_t __atomic_fetch_sub(int64_t *at, int64_t value, int order) noexcept nogil
    int64_t __atomic_load_n(int64_t *at, int order) noexcept nogil
    void __atomic_store_n(int64_t *at, int64_t value, int order) noexcept nogil
    int64_t __atomic_exchange_n(int64_t *at, int64_t value, int order) noexcept nogil
    bint __atomic_compare_exchange_n(
        int64_t *at, int64_t *expected, int64_t value, bint weak, int order, int order_failed
    ) noexcept nogil
    const int __ATOMIC_RELAXED, __ATOMIC_ACQUIRE, __ATOMIC_RELEASE, __ATOMIC_ACQ_REL


cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *into)
    const int CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE


cdef enum Outcome:
    OK = 0
    BUSY            # wait was 0 and another thread has the lock
    NOT_FOUND
    IN_USE          # referenced or pinned
    CONFLICT        # another version than `expected`: see Change.actual
    FULL            # the budget is used up by what must stay
    NO_MEMORY       # the system has none
    BELOW_ZERO      # more references removed than there are
    ABOVE_MAX       # more references than REFS_MAX
    EXPIRED         # the snapshot is past its age
    EXHAUSTED       # the epoch has no versions left
    INVALID         # a length or count outside its limit

cdef enum:
    KEY_BYTES_MAX = 1024
    METADATA_BYTES_MAX = 65536
    REFS_MAX = 2147483647
    ENTRY_BYTES = 192          # what the budget counts for a key, beside the key's own bytes
    RECORD_BYTES = 128         # and for each value kept, beside value and metadata
    SNAPSHOTS_MAX = 1024
    ANY_VERSION = -1
    CHANGES_MAX = 65536        # keys in one transaction
    COPY_UNLOCKED_MIN = 65536  # values of this size are copied while the lock is free

cdef enum ChangeKind:
    PUT
    REMOVE
    CHECK           # only the version is compared


cdef struct Blob:
    # One version of an object, immutable: this head, the value, the metadata.
    int64_t holders
    uint64_t version
    uint64_t ended             # first version at which it was no longer current; 0: it is
    uint64_t value_bytes
    int64_t created_ms         # of the object
    int64_t updated_ms         # of this version
    Blob *older                # the entry's retired versions; or the stack of released ones
    Blob *fellow               # retired versions that the same snapshot keeps
    Entry *entry               # meant only while retired
    uint32_t metadata_bytes
    bint live                  # it is its object's current version

cdef struct Moment:
    int64_t wall_ms            # stamps of objects
    int64_t age_ms             # ages of snapshots; 0 will do while Table.snapshots is 0

cdef struct Entry:
    IndexNode node             # first: a node's address is its entry's
    uint64_t hash
    Blob *head                 # NULL: deleted, but a snapshot still sees it
    Blob *past                 # retired versions that snapshots see, newest first
    Entry *colder              # in the list of reclaimables, or of the parked ones
    Entry *hotter
    uint64_t used_at           # the use's number, for merging the two lists
    int32_t refs
    uint8_t pinned
    uint8_t guarded            # read or written by the change under way: not evicted by it
    uint8_t listed             # in one of the two lists
    uint8_t leaves             # its `past` goes with the snapshots that yield: `hide_yielding`

cdef struct Slot:
    uint64_t hash
    Entry *entry

cdef struct Snap:
    Snap *older
    Snap *newer
    uint64_t at                # the last version it sees
    int64_t deadline_ms
    Blob *kept                 # retired versions that no newer snapshot sees
    bint yields                # ended where else a change would have no room
    bint open

cdef struct Counters:
    uint64_t puts
    uint64_t gets
    uint64_t misses
    uint64_t deletes
    uint64_t conflicts
    uint64_t evictions
    uint64_t refusals          # FULL

cdef struct Figures:
    # A consistent copy of what the table counts.
    uint64_t objects
    uint32_t snapshots
    int64_t bytes_used
    int64_t bytes_live
    int64_t bytes_writing
    uint64_t bytes_recycled    # warm blocks at rest, in what the budget does not use
    uint64_t bytes_mapped
    uint64_t recycles
    Counters counters

cdef struct Table:
    pthread_mutex_t lock
    uint64_t secret[2]         # of the hash: keys come from guests
    Slot *slots
    uint64_t mask              # slots - 1, a power of two
    uint64_t entries           # in slots, the deleted ones that snapshots see included
    uint64_t objects
    int64_t bytes_max
    int64_t bytes_used         # all the budget counts
    int64_t bytes_live         # of it: current versions and their keys
    int64_t bytes_writing      # of it: reserved by writes under way
    uint64_t version           # the last one given
    uint64_t version_max
    uint64_t uses
    Entry reclaimable          # head of a ring: .hotter is the coldest
    Entry parked               # reclaimable, but a snapshot sees the value
    Snap *newest
    Snap *oldest
    int64_t snapshots          # may be read without the lock, atomically
    int64_t released           # Blob * stack of views that let go; pushed without the lock
    int64_t durable_room       # bytes, key and value, that the host would keep; atomically
    KeyIndex index
    BlockPool pool
    Counters counters

cdef struct Change:
    const unsigned char *key
    const unsigned char *value     # may be NULL when value_bytes is 0
    const unsigned char *metadata  # as `objstore` packs it; may be NULL
    uint64_t value_bytes
    int64_t expected               # a version, 0: must not exist, ANY_VERSION
    uint32_t key_bytes
    uint32_t metadata_bytes
    ChangeKind kind
    bint force                     # REMOVE also what is referenced or pinned
    # Set by table_change:
    uint64_t version               # given by a PUT; 0 after a REMOVE
    uint64_t actual                # found, when the outcome is CONFLICT
    uint64_t hash
    Entry *entry
    Blob *blob

cdef struct Row:
    Blob *blob                     # the caller's, to be released
    uint32_t key_at                # where in the caller's key bytes
    uint32_t key_bytes
    int32_t refs
    bint pinned

cdef struct Listing:
    # What to list, and where the rows go.
    const unsigned char *prefix
    const unsigned char *after     # NULL: from the start
    uint32_t prefix_bytes
    uint32_t after_bytes
    Row *rows
    uint32_t rows_max
    uint32_t rows_count
    unsigned char *keys
    uint32_t keys_max              # at least KEY_BYTES_MAX
    bint complete                  # nothing lies behind the last row


cdef inline const unsigned char *blob_value(const Blob *blob) noexcept nogil:
    return <const unsigned char *>blob + sizeof(Blob)

cdef inline const unsigned char *blob_metadata(const Blob *blob) noexcept nogil:
    return <const unsigned char *>blob + sizeof(Blob) + blob.value_bytes


cdef extern from *:
    """
    #if defined(__x86_64__)
    #define spear_relax() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define spear_relax() __asm__ __volatile__("yield")
    #else
    #define spear_relax() ((void)0)
    #endif
    """
    void spear_relax() noexcept nogil

cdef enum:
    SLOTS_MIN = 64
    SPINS = 64          # tries before a caller that may not wait is told BUSY: about 1 us


cdef void drain(Table *table) noexcept nogil
cdef Blob *blob_new(Table *table, const Change *change) noexcept nogil
cdef void blob_fill(Blob *blob, const Change *change) noexcept nogil
cdef void blob_free(Table *table, Blob *blob) noexcept nogil
cdef void blob_drop(Table *table, Blob *blob) noexcept nogil
cdef void blob_release(Table *table, Blob *blob) noexcept nogil  # takes no lock, never waits
cdef bint resize(Table *table, uint64_t count) noexcept nogil
cdef Entry *entry_new(Table *table, const Change *change) noexcept nogil
cdef void entry_settle(Table *table, Entry *entry) noexcept nogil
cdef void park(Table *table, Entry *entry) noexcept nogil
cdef void unpark_all(Table *table) noexcept nogil


cdef inline bint lock(Table *table, bint wait) noexcept nogil:
    cdef int _spin
    if pthread_mutex_trylock(&table.lock) != 0:
        for _spin in range(SPINS):
            spear_relax()
            if pthread_mutex_trylock(&table.lock) == 0:
                break
        else:
            if not wait:
                return False
            pthread_mutex_lock(&table.lock)
    if __atomic_load_n(&table.released, __ATOMIC_RELAXED) != 0:
        drain(table)
    return True


cdef inline void unlock(Table *table) noexcept nogil:
    cdef FreeBlock *doomed = NULL
    if table.pool.doomed != NULL:
        doomed = pool_doomed(&table.pool)
    pthread_mutex_unlock(&table.lock)
    if doomed != NULL:
        pool_unmap(doomed)


cdef inline int64_t blob_bytes(const Blob *blob) noexcept nogil:
    return RECORD_BYTES + <int64_t>(blob.value_bytes + blob.metadata_bytes)


cdef inline size_t blob_size(const Blob *blob) noexcept nogil:
    return sizeof(Blob) + blob.value_bytes + blob.metadata_bytes


cdef inline Entry *find(
    const Table *table, const unsigned char *key, uint32_t key_bytes, uint64_t hash
) noexcept nogil:
    cdef uint64_t at = hash & table.mask
    cdef Entry *entry = table.slots[at].entry
    while entry != NULL:
        if (table.slots[at].hash == hash and entry.node.key_bytes == key_bytes
                and memcmp(entry.node.key, key, key_bytes) == 0):
            return entry
        at = (at + 1) & table.mask
        entry = table.slots[at].entry
    return NULL


cdef inline int64_t entry_bytes(const Entry *entry) noexcept nogil:
    return ENTRY_BYTES + <int64_t>entry.node.key_bytes


cdef inline void list_before(Entry *entry, Entry *place) noexcept nogil:
    entry.hotter = place
    entry.colder = place.colder
    place.colder.hotter = entry
    place.colder = entry
    entry.listed = True


cdef inline void unlist(Entry *entry) noexcept nogil:
    if entry.listed:
        entry.colder.hotter = entry.hotter
        entry.hotter.colder = entry.colder
        entry.listed = False


cdef inline void touch(Table *table, Entry *entry) noexcept nogil:
    """Makes the entry the most recently used one, in the list if it is reclaimable."""
    table.uses += 1
    entry.used_at = table.uses
    if table.reclaimable.colder == entry:
        return
    unlist(entry)
    if entry.refs == 0 and not entry.pinned:
        list_before(entry, &table.reclaimable)


cdef inline bint seen(const Table *table, const Blob *blob) noexcept nogil:
    """Whether a snapshot sees this current version."""
    return table.newest != NULL and table.newest.at >= blob.version


cdef inline bint unheld(const Blob *blob) noexcept nogil:
    return __atomic_load_n(<int64_t *>&blob.holders, __ATOMIC_ACQUIRE) == 1


cdef inline uint64_t recycled_max(Table *table) noexcept nogil:
    """Warm blocks at rest live in what the budget does not use, half of it at most."""
    cdef int64_t room = table.bytes_max - table.bytes_used
    cdef int64_t half = table.bytes_max >> 1
    if room < 0:
        return 0
    return <uint64_t>(half if half < room else room)

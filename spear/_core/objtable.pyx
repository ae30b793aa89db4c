# cython: language_level=3
"""The table of objects: all-or-nothing changes, reads, references, pins, the byte budget.

Rule: nothing in here touches Python, and no lock is held over a copy of 64 KiB or more, nor over
the unmapping of pages.

A change runs in three steps under the lock: `plan` checks every version and makes room,
`take_blobs` and `take_entries` allocate all that can fail, `publish` cannot fail. A large value is
filled between a first plan, which reserves its bytes, and a second one, which decides.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from spear._core.blockpool cimport pool_close, pool_give, pool_init, pool_take, pool_trim
from spear._core.keyhash cimport key_hash
from spear._core.keyindex cimport IndexNode
from spear._core.objentries cimport (
    ABOVE_MAX, ANY_VERSION, BELOW_ZERO, BUSY, CHANGES_MAX, CHECK, CONFLICT, COPY_UNLOCKED_MIN,
    ENTRY_BYTES, EXHAUSTED, FULL, INVALID, IN_USE, KEY_BYTES_MAX, METADATA_BYTES_MAX, NOT_FOUND,
    NO_MEMORY, OK, PUT, RECORD_BYTES, REFS_MAX, REMOVE, SLOTS_MIN, __ATOMIC_RELAXED, Blob, Change,
    Entry, Figures, Moment, Outcome, Row, Slot, Snap, Table, __atomic_fetch_add, blob_bytes,
    blob_drop, blob_fill, blob_new, blob_size, drain, entry_bytes, entry_new, entry_settle, find,
    lock, pthread_mutex_destroy, pthread_mutex_init, recycled_max, seen, touch, unheld, unlist,
    unlock,
)
from spear._core.objsnaps cimport (
    any_yields, can_free, expire, gain, hide_yielding, retire, row_fill, show_yielding,
)


# Room.

cdef void evict(Table *table, int64_t wanted) noexcept nogil:
    cdef Entry *entry = table.reclaimable.hotter
    cdef Entry *hotter
    while wanted > 0 and entry != &table.reclaimable:
        hotter = entry.hotter
        if not entry.guarded and unheld(entry.head):
            wanted -= gain(table, entry)
            table.counters.evictions += 1
            remove(table, entry, table.version)
        entry = hotter


cdef bint make_room(Table *table, int64_t need) noexcept nogil:
    """Whether `need` more bytes fit; evicts only if that suffices."""
    cdef int64_t over = table.bytes_used + need - table.bytes_max
    if over <= 0 or need <= 0:
        return True
    if not can_free(table, over):
        return False
    evict(table, over)
    return True


# Changes.

cdef void remove(Table *table, Entry *entry, uint64_t version) noexcept nogil:
    unlist(entry)
    retire(table, entry, version)
    table.objects -= 1
    table.bytes_live -= entry_bytes(entry)
    entry.refs = entry.pinned = 0
    entry_settle(table, entry)


cdef void install(Table *table, Entry *entry, Blob *blob, int64_t wall_ms) noexcept nogil:
    table.version += 1
    blob.version = table.version
    blob.updated_ms = wall_ms
    if entry.head != NULL:
        blob.created_ms = entry.head.created_ms
        retire(table, entry, blob.version)
    else:
        blob.created_ms = wall_ms
        table.objects += 1
        table.bytes_live += entry_bytes(entry)
    blob.live = True
    entry.head = blob
    table.bytes_used += blob_bytes(blob)
    table.bytes_live += blob_bytes(blob)
    table.counters.puts += 1
    touch(table, entry)


cdef inline Outcome check(Table *table, Change *change) noexcept nogil:
    cdef Entry *entry = find(table, change.key, change.key_bytes, change.hash)
    cdef bint there = entry != NULL and entry.head != NULL
    change.entry = entry
    if change.kind == REMOVE and not there:
        return NOT_FOUND
    if change.expected != ANY_VERSION:
        change.actual = entry.head.version if there else 0
        if change.actual != <uint64_t>change.expected:
            table.counters.conflicts += 1
            return CONFLICT
    if change.kind == REMOVE and not change.force and (entry.refs or entry.pinned):
        return IN_USE
    return OK


cdef inline int64_t cost(const Table *table, const Change *change) noexcept nogil:
    """Bytes the budget gains (negative: loses) when the change is made."""
    cdef Entry *entry = change.entry
    cdef int64_t bytes = 0
    if change.kind == CHECK:
        return 0
    if change.kind == REMOVE:
        return -gain(table, entry)
    bytes = RECORD_BYTES + <int64_t>(change.value_bytes + change.metadata_bytes)
    if entry == NULL or (entry.head == NULL and entry.leaves):
        return bytes + ENTRY_BYTES + change.key_bytes
    if entry.head != NULL and not seen(table, entry.head) and unheld(entry.head):
        bytes -= blob_bytes(entry.head)
    return bytes


cdef Outcome plan(
    Table *table, Change *changes, uint32_t count, int64_t age_ms, int64_t *need, uint32_t *failed
) noexcept nogil:
    """Checks every change against the table and makes room for them all."""
    cdef Outcome outcome = check_all(table, changes, count, need, failed)
    if outcome != OK or table.bytes_used + need[0] <= table.bytes_max:
        return outcome
    # Ending snapshots frees entries that the changes may point to: they are looked up again.
    if expire(table, age_ms, False):
        outcome = check_all(table, changes, count, need, failed)
    if room_beside(table, changes, count, need[0]):
        return OK
    if room_by_yielding(table, changes, count) and expire(table, age_ms, True):
        outcome = check_all(table, changes, count, need, failed)
        if room_beside(table, changes, count, need[0]):
            return OK
    table.counters.refusals += 1
    return FULL


cdef bint room_beside(Table *table, Change *changes, uint32_t count, int64_t need) noexcept nogil:
    """As make_room; what the changes are about is not evicted for them."""
    cdef bint fits
    guard(changes, count, True)
    fits = make_room(table, need)
    guard(changes, count, False)
    return fits


cdef bint room_by_yielding(Table *table, Change *changes, uint32_t count) noexcept nogil:
    """Whether the changes would fit with the snapshots that yield ended; none is ended for less."""
    cdef Snap *newest = table.newest
    cdef int64_t need = 0
    cdef int64_t over
    cdef uint32_t failed
    if not any_yields(table):
        return False
    over = table.bytes_used - table.bytes_max - hide_yielding(table)
    check_all(table, changes, count, &need, &failed)
    guard(changes, count, True)
    over = over_without(table, &table.reclaimable, over + need)
    over = over_without(table, &table.parked, over)
    guard(changes, count, False)
    show_yielding(table, newest)
    return need <= 0 or over <= 0


cdef int64_t over_without(Table *table, Entry *ring, int64_t over) noexcept nogil:
    """What is left of `over` bytes without what may be evicted of the list; nothing is."""
    cdef Entry *entry = ring.hotter
    while over > 0 and entry != ring:
        if not entry.guarded and unheld(entry.head):
            over -= gain(table, entry)
        entry = entry.hotter
    return over


cdef inline Outcome check_all(
    Table *table, Change *changes, uint32_t count, int64_t *need, uint32_t *failed
) noexcept nogil:
    cdef Outcome outcome
    cdef uint32_t i
    need[0] = 0
    for i in range(count):
        outcome = check(table, &changes[i])
        if outcome != OK:
            failed[0] = i
            return outcome
        need[0] += cost(table, &changes[i])
    return EXHAUSTED if table.version_max - table.version < count else OK


cdef void guard(Change *changes, uint32_t count, bint guarded) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if changes[i].entry != NULL:
            changes[i].entry.guarded = guarded


cdef Outcome take_blobs(Table *table, Change *changes, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if changes[i].kind == PUT:
            changes[i].blob = blob_new(table, &changes[i])
            if changes[i].blob == NULL:
                return NO_MEMORY
    return OK


cdef inline void fill_blobs(Change *changes, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if changes[i].kind == PUT:
            blob_fill(changes[i].blob, &changes[i])


cdef Outcome fill_unlocked(
    Table *table, Change *changes, uint32_t count, Moment now, int64_t need, uint32_t *failed
) noexcept nogil:
    """Copies the values with the lock free, their bytes reserved; then plans again."""
    cdef int64_t reserved = need if need > 0 else 0
    table.bytes_used += reserved
    table.bytes_writing += reserved
    pool_trim_to_room(table)
    unlock(table)
    fill_blobs(changes, count)
    lock(table, True)
    table.bytes_used -= reserved
    table.bytes_writing -= reserved
    return plan(table, changes, count, now.age_ms, &need, failed)


cdef inline void pool_trim_to_room(Table *table) noexcept nogil:
    if table.pool.recycled and table.pool.recycled > recycled_max(table):
        pool_trim(&table.pool, recycled_max(table))


cdef Outcome take_entries(Table *table, Change *changes, uint32_t count) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t j
    for i in range(count):
        if changes[i].kind == PUT and changes[i].entry == NULL:
            changes[i].entry = entry_new(table, &changes[i])
            if changes[i].entry == NULL:
                for j in range(i):
                    if changes[j].kind == PUT:
                        entry_settle(table, changes[j].entry)
                return NO_MEMORY
    return OK


cdef inline void publish(Table *table, Change *changes, uint32_t count, Moment now) noexcept nogil:
    cdef uint32_t i
    cdef Change *change
    for i in range(count):
        change = &changes[i]
        if change.kind == PUT:
            install(table, change.entry, change.blob, now.wall_ms)
            change.version = change.blob.version
            change.blob = NULL
        elif change.kind == REMOVE:
            table.version += 1
            table.counters.deletes += 1
            remove(table, change.entry, table.version)


cdef inline Outcome admissible(
    Table *table, Change *changes, uint32_t count, uint64_t *bytes, uint32_t *failed
) noexcept nogil:
    """Limits of what came from outside; hashes the keys."""
    cdef uint32_t i
    cdef Change *change
    bytes[0] = 0
    if count > CHANGES_MAX:
        return INVALID
    for i in range(count):
        change = &changes[i]
        failed[0] = i
        if change.key_bytes - 1 >= KEY_BYTES_MAX or change.metadata_bytes > METADATA_BYTES_MAX:
            return INVALID
        if change.kind == PUT:
            if change.value_bytes > <uint64_t>table.bytes_max:
                return FULL
            bytes[0] += change.value_bytes
        change.blob = NULL
        change.version = change.actual = 0
        change.hash = key_hash(change.key, change.key_bytes, table.secret)
    return OK


cdef Outcome table_change(
    Table *table, Change *changes, uint32_t count, Moment now, bint wait, uint32_t *failed
) noexcept nogil:
    """Makes all the changes at one moment, or none; keys must differ from one another.

    `failed` gets the place of the change that NOT_FOUND, IN_USE, CONFLICT or INVALID is about.
    With `wait = 0` it still waits for a second time on the lock after copying large values.
    """
    cdef int64_t need
    cdef uint64_t bytes
    cdef uint32_t i
    cdef Outcome outcome = admissible(table, changes, count, &bytes, failed)
    if outcome != OK:
        return outcome
    if not lock(table, wait):
        return BUSY
    outcome = plan(table, changes, count, now.age_ms, &need, failed)
    if outcome == OK:
        outcome = take_blobs(table, changes, count)
    if outcome == OK:
        if bytes >= COPY_UNLOCKED_MIN:
            outcome = fill_unlocked(table, changes, count, now, need, failed)
        else:
            fill_blobs(changes, count)
    if outcome == OK:
        outcome = take_entries(table, changes, count)
    if outcome == OK:
        publish(table, changes, count, now)
        pool_trim_to_room(table)
    else:
        for i in range(count):
            if changes[i].blob != NULL:
                pool_give(&table.pool, changes[i].blob, blob_size(changes[i].blob))
    unlock(table)
    return outcome


# Reads, references, pins.

cdef Outcome table_get(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint wait, Blob **found
) noexcept nogil:
    """The current version, held for the caller."""
    cdef uint64_t hash = key_hash(key, key_bytes, table.secret)
    cdef Entry *entry
    if not lock(table, wait):
        return BUSY
    entry = find(table, key, key_bytes, hash)
    if entry == NULL or entry.head == NULL:
        table.counters.misses += 1
        unlock(table)
        return NOT_FOUND
    found[0] = entry.head
    __atomic_fetch_add(&entry.head.holders, 1, __ATOMIC_RELAXED)
    table.counters.gets += 1
    touch(table, entry)
    unlock(table)
    return OK


cdef Entry *locked_entry(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint wait, Outcome *outcome
) noexcept nogil:
    """The live entry with the lock taken; NULL, and no lock, when `outcome` is not OK."""
    cdef uint64_t hash = key_hash(key, key_bytes, table.secret)
    cdef Entry *entry
    outcome[0] = BUSY
    if not lock(table, wait):
        return NULL
    entry = find(table, key, key_bytes, hash)
    outcome[0] = OK
    if entry == NULL or entry.head == NULL:
        outcome[0] = NOT_FOUND
        unlock(table)
        return NULL
    return entry


cdef Outcome table_stat(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint wait, Row *found
) noexcept nogil:
    """What `table_list` would say of one key; not a use."""
    cdef Outcome outcome
    cdef Entry *entry = locked_entry(table, key, key_bytes, wait, &outcome)
    if entry != NULL:
        row_fill(found, entry, entry.head)
        unlock(table)
    return outcome


cdef Entry *entry_at(
    Table *table, const unsigned char *key, uint32_t key_bytes, int64_t expected, bint wait,
    uint64_t *actual, Outcome *outcome
) noexcept nogil:
    """As locked_entry, where it is at the version `expected`; CONFLICT says in `actual` which."""
    cdef Entry *entry = locked_entry(table, key, key_bytes, wait, outcome)
    if entry == NULL or expected == ANY_VERSION or entry.head.version == <uint64_t>expected:
        return entry
    actual[0] = entry.head.version
    table.counters.conflicts += 1
    outcome[0] = CONFLICT
    unlock(table)
    return NULL


cdef Outcome table_refs(
    Table *table, const unsigned char *key, uint32_t key_bytes, int64_t add, int64_t expected,
    bint wait, int32_t *refs, uint64_t *actual
) noexcept nogil:
    """Adds to the count of references; at 0 the object is reclaimable, as recently used."""
    cdef Outcome outcome
    cdef Entry *entry = entry_at(table, key, key_bytes, expected, wait, actual, &outcome)
    if entry == NULL:
        return outcome
    refs[0] = entry.refs
    if add > REFS_MAX - entry.refs:
        outcome = ABOVE_MAX
    elif add < -<int64_t>entry.refs:
        outcome = BELOW_ZERO
    else:
        entry.refs += <int32_t>add
        refs[0] = entry.refs
        relist(table, entry)
    unlock(table)
    return outcome


cdef Outcome table_pin(
    Table *table, const unsigned char *key, uint32_t key_bytes, bint pinned, int64_t expected,
    bint wait, uint64_t *actual
) noexcept nogil:
    cdef Outcome outcome
    cdef Entry *entry = entry_at(table, key, key_bytes, expected, wait, actual, &outcome)
    if entry != NULL:
        entry.pinned = pinned
        relist(table, entry)
        unlock(table)
    return outcome


cdef inline void relist(Table *table, Entry *entry) noexcept nogil:
    if entry.refs or entry.pinned:
        unlist(entry)
    elif not entry.listed:
        touch(table, entry)


# The whole.

cdef void table_figures(Table *table, int64_t age_ms, Figures *into) noexcept nogil:
    lock(table, True)
    expire(table, age_ms, False)
    into.objects = table.objects
    into.snapshots = <uint32_t>table.snapshots
    into.bytes_used = table.bytes_used
    into.bytes_live = table.bytes_live
    into.bytes_writing = table.bytes_writing
    into.bytes_recycled = table.pool.recycled
    into.bytes_mapped = table.pool.mapped
    into.recycles = table.pool.recycles
    into.counters = table.counters
    unlock(table)


cdef Table *table_new(int64_t bytes_max, uint64_t epoch, const uint64_t *secret) noexcept nogil:
    """An empty table; NULL when the system has no memory. `secret` is 16 random bytes."""
    cdef Table *table = <Table *>calloc(1, sizeof(Table))
    if table == NULL:
        return NULL
    pool_init(&table.pool, <uint64_t>bytes_max >> 1)
    table.slots = <Slot *>pool_take(&table.pool, SLOTS_MIN * sizeof(Slot))
    if table.slots == NULL or pthread_mutex_init(&table.lock, NULL) != 0:
        pool_close(&table.pool)
        free(table)
        return NULL
    memset(table.slots, 0, SLOTS_MIN * sizeof(Slot))
    table.mask = SLOTS_MIN - 1
    table.secret[0] = secret[0]
    table.secret[1] = secret[1]
    table.bytes_max = bytes_max
    table.durable_room = INT64_MAX
    table.version = epoch << 40
    table.version_max = table.version | ((<uint64_t>1 << 40) - 1)
    table.reclaimable.colder = table.reclaimable.hotter = &table.reclaimable
    table.parked.colder = table.parked.hotter = &table.parked
    return table


cdef void table_free(Table *table) noexcept nogil:
    """Frees the table; every snapshot must be closed and every held blob released."""
    cdef IndexNode *node
    cdef Entry *entry
    drain(table)
    node = table.index.first
    while node != NULL:
        entry = <Entry *>node
        node = node.next
        if entry.head != NULL:
            blob_drop(table, entry.head)
        pool_give(&table.pool, entry, sizeof(Entry) + entry.node.key_bytes)
    pool_give(&table.pool, table.slots, (table.mask + 1) * sizeof(Slot))
    pool_close(&table.pool)
    pthread_mutex_destroy(&table.lock)
    free(table)

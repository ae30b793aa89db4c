# cython: language_level=3
"""What the object table is made of: blobs, slots, entries, and the order of their use.

Rule: one mutex guards it all and is held for well under a microsecond; nothing touches Python.

A view that lets go of a value nobody else holds pushes it on the `released` stack without the
lock; whoever takes the lock next frees what lies there, so the budget is exact at every decision.
Slots are open addressing, linear, with the full hash beside the pointer.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from spear._core.blockpool cimport pool_give, pool_take
from spear._core.keyindex cimport index_insert, index_remove


cdef Blob *blob_new(Table *table, const Change *change) noexcept nogil:
    cdef Blob *blob = <Blob *>pool_take(
        &table.pool, sizeof(Blob) + change.value_bytes + change.metadata_bytes
    )
    if blob != NULL:
        blob.holders = 1
        blob.ended = 0
        blob.value_bytes = change.value_bytes
        blob.metadata_bytes = change.metadata_bytes
        blob.live = False
    return blob


cdef void blob_fill(Blob *blob, const Change *change) noexcept nogil:
    if change.value_bytes:
        memcpy(<void *>blob_value(blob), change.value, change.value_bytes)
    if change.metadata_bytes:
        memcpy(<void *>blob_metadata(blob), change.metadata, change.metadata_bytes)


cdef void blob_free(Table *table, Blob *blob) noexcept nogil:
    table.bytes_used -= blob_bytes(blob)
    if blob.value_bytes >= COPY_UNLOCKED_MIN:
        table.pool.recycled_max = recycled_max(table)
    pool_give(&table.pool, blob, blob_size(blob))


cdef void blob_drop(Table *table, Blob *blob) noexcept nogil:
    """Lets go of the table's own hold."""
    if __atomic_fetch_sub(&blob.holders, 1, __ATOMIC_ACQ_REL) == 1:
        blob_free(table, blob)


cdef void blob_release(Table *table, Blob *blob) noexcept nogil:
    """Lets go of a blob got from the table; never waits for the lock."""
    cdef int64_t top
    if __atomic_fetch_sub(&blob.holders, 1, __ATOMIC_ACQ_REL) != 1:
        return
    top = __atomic_load_n(&table.released, __ATOMIC_RELAXED)
    while True:
        blob.older = <Blob *><size_t>top
        if __atomic_compare_exchange_n(
            &table.released, &top, <int64_t><size_t>blob, True, __ATOMIC_RELEASE, __ATOMIC_RELAXED
        ):
            break
    if pthread_mutex_trylock(&table.lock) == 0:
        drain(table)
        unlock(table)


cdef void drain(Table *table) noexcept nogil:
    cdef Blob *blob = <Blob *><size_t>__atomic_exchange_n(&table.released, 0, __ATOMIC_ACQUIRE)
    cdef Blob *following
    while blob != NULL:
        following = blob.older
        blob_free(table, blob)
        blob = following


cdef inline void slot_put(Slot *slots, uint64_t mask, Slot filled) noexcept nogil:
    cdef uint64_t at = filled.hash & mask
    while slots[at].entry != NULL:
        at = (at + 1) & mask
    slots[at] = filled


cdef bint resize(Table *table, uint64_t count) noexcept nogil:
    cdef Slot *slots = <Slot *>pool_take(&table.pool, count * sizeof(Slot))
    cdef uint64_t at
    if slots == NULL:
        return False
    memset(slots, 0, count * sizeof(Slot))
    for at in range(table.mask + 1):
        if table.slots[at].entry != NULL:
            slot_put(slots, count - 1, table.slots[at])
    pool_give(&table.pool, table.slots, (table.mask + 1) * sizeof(Slot))
    table.slots = slots
    table.mask = count - 1
    return True


cdef void slot_erase(Table *table, const Entry *entry) noexcept nogil:
    """Empties the entry's slot and moves those behind it up, so that no marks are needed."""
    cdef uint64_t mask = table.mask
    cdef uint64_t hole = entry.hash & mask
    cdef uint64_t at
    while table.slots[hole].entry != entry:
        hole = (hole + 1) & mask
    at = (hole + 1) & mask
    while table.slots[at].entry != NULL:
        if ((at - table.slots[at].hash) & mask) >= ((at - hole) & mask):
            table.slots[hole] = table.slots[at]
            hole = at
        at = (at + 1) & mask
    table.slots[hole].entry = NULL


cdef Entry *entry_new(Table *table, const Change *change) noexcept nogil:
    cdef Entry *entry
    cdef Slot slot
    if (table.entries + 1) * 5 > (table.mask + 1) * 3:
        if not resize(table, (table.mask + 1) * 2):
            return NULL
    entry = <Entry *>pool_take(&table.pool, sizeof(Entry) + change.key_bytes)
    if entry == NULL:
        return NULL
    entry.node.key = <const unsigned char *>entry + sizeof(Entry)
    entry.node.key_bytes = change.key_bytes
    memcpy(<void *>entry.node.key, change.key, change.key_bytes)
    entry.hash = change.hash
    entry.head = entry.past = NULL
    entry.used_at = 0
    entry.refs = entry.pinned = entry.guarded = entry.listed = entry.leaves = 0
    slot.hash = change.hash
    slot.entry = entry
    slot_put(table.slots, table.mask, slot)
    index_insert(&table.index, &entry.node)
    table.entries += 1
    table.bytes_used += entry_bytes(entry)
    return entry


cdef void entry_settle(Table *table, Entry *entry) noexcept nogil:
    """Frees the entry if nothing is left of its object."""
    if entry.head != NULL or entry.past != NULL:
        return
    slot_erase(table, entry)
    index_remove(&table.index, &entry.node)
    table.entries -= 1
    table.bytes_used -= entry_bytes(entry)
    pool_give(&table.pool, entry, sizeof(Entry) + entry.node.key_bytes)
    if table.mask >= SLOTS_MIN and table.entries * 8 < table.mask:
        resize(table, (table.mask + 1) // 2)


cdef void park(Table *table, Entry *entry) noexcept nogil:
    cdef Entry *place = &table.parked
    unlist(entry)
    while place.colder != &table.parked and place.colder.used_at > entry.used_at:
        place = place.colder
    list_before(entry, place)


cdef void unpark_all(Table *table) noexcept nogil:
    cdef Entry *place = table.reclaimable.hotter
    cdef Entry *entry = table.parked.hotter
    while entry != &table.parked:
        unlist(entry)
        while place != &table.reclaimable and place.used_at < entry.used_at:
            place = place.hotter
        list_before(entry, place)
        entry = table.parked.hotter

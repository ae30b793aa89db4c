# cython: language_level=3
"""Snapshots of the object table, and lists of it in key order.

Rule: a snapshot is a version number, taken in constant time; a version replaced or deleted while
a snapshot sees it is retired, not freed.

A retired version stays in its entry's `past` and in the `kept` list of the newest snapshot that
sees it; closing a snapshot hands its list to the next older one or lets it go.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from spear._core.keyhash cimport key_hash
from spear._core.keyindex cimport IndexNode, index_at_or_after
from spear._core.objentries cimport (
    BUSY, EXPIRED, FULL, NOT_FOUND, OK, SNAPSHOTS_MAX, __ATOMIC_RELAXED, __atomic_fetch_add,
    __atomic_fetch_sub, blob_bytes, blob_drop, entry_bytes, entry_settle, find, lock, park, seen,
    unheld, unlock, unpark_all,
)


cdef void retire(Table *table, Entry *entry, uint64_t version) noexcept nogil:
    """Ends the current version as of `version`."""
    cdef Blob *blob = entry.head
    entry.head = NULL
    table.bytes_live -= blob_bytes(blob)
    blob.live = False
    if not seen(table, blob):
        blob_drop(table, blob)
        return
    blob.ended = version
    blob.entry = entry
    blob.older = entry.past
    entry.past = blob
    blob.fellow = table.newest.kept
    table.newest.kept = blob


cdef void forget(Table *table, Blob *blob) noexcept nogil:
    """Lets a retired version go."""
    cdef Entry *entry = blob.entry
    cdef Blob **link = &entry.past
    while link[0] != blob:
        link = &link[0].older
    link[0] = blob.older
    blob_drop(table, blob)
    entry_settle(table, entry)


cdef void end(Table *table, Snap *snap) noexcept nogil:
    cdef Blob *blob = snap.kept
    cdef Blob *following
    if snap.older != NULL:
        snap.older.newer = snap.newer
    else:
        table.oldest = snap.newer
    if snap.newer != NULL:
        snap.newer.older = snap.older
    else:
        table.newest = snap.older
    __atomic_fetch_sub(&table.snapshots, 1, __ATOMIC_RELAXED)
    snap.open = False
    while blob != NULL:
        following = blob.fellow
        if snap.older != NULL and snap.older.at >= blob.version:
            blob.fellow = snap.older.kept
            snap.older.kept = blob
        else:
            forget(table, blob)
        blob = following
    unpark_all(table)


cdef bint expire(Table *table, int64_t age_ms, bint full) noexcept nogil:
    """Ends the snapshots past their age, if `full` also those that yield; whether there was one."""
    cdef Snap *snap = table.oldest
    cdef Snap *newer
    cdef bint ended = False
    while snap != NULL:
        newer = snap.newer
        if age_ms >= snap.deadline_ms or (full and snap.yields):
            end(table, snap)
            ended = True
        snap = newer
    return ended


# What the budget would gain.

cdef int64_t gain(const Table *table, const Entry *entry) noexcept nogil:
    """Bytes that come free when the object goes."""
    cdef int64_t free_bytes = 0
    if seen(table, entry.head):
        return 0
    if entry.past == NULL or entry.leaves:
        free_bytes = entry_bytes(entry)
    if unheld(entry.head):
        free_bytes += blob_bytes(entry.head)
    return free_bytes


cdef bint can_free(Table *table, int64_t wanted) noexcept nogil:
    """Whether evicting gives `wanted` bytes; parks what only a closed snapshot would free."""
    cdef Entry *entry = table.reclaimable.hotter
    cdef Entry *hotter
    while wanted > 0 and entry != &table.reclaimable:
        hotter = entry.hotter
        if not entry.guarded:
            if seen(table, entry.head):
                park(table, entry)
            elif unheld(entry.head):
                wanted -= gain(table, entry)
        entry = hotter
    return wanted <= 0


cdef bint any_yields(const Table *table) noexcept nogil:
    cdef const Snap *snap = table.oldest
    while snap != NULL and not snap.yields:
        snap = snap.newer
    return snap != NULL


cdef int64_t hide_yielding(Table *table) noexcept nogil:
    """Until `show_yielding` the budget is counted as if the snapshots that yield had ended; gives
    what their end alone would free. A retired version is kept by the newest snapshot that sees it,
    so it stays if the newest of the others that is not newer sees it, too."""
    cdef int64_t free_bytes = mark_leaving(table, True)
    cdef Snap *staying = NULL
    cdef Snap *snap = table.oldest
    cdef Blob *blob
    while snap != NULL:
        if not snap.yields:
            staying = snap
        blob = snap.kept
        while blob != NULL:
            if staying != NULL and staying.at >= blob.version:
                if blob.entry.leaves and blob.entry.head == NULL:
                    free_bytes -= entry_bytes(blob.entry)
                blob.entry.leaves = False
            elif unheld(blob):
                free_bytes += blob_bytes(blob)
            blob = blob.fellow
        snap = snap.newer
    table.newest = staying
    return free_bytes


cdef void show_yielding(Table *table, Snap *newest) noexcept nogil:
    """`newest` is what the table had as such before `hide_yielding`."""
    table.newest = newest
    mark_leaving(table, False)


cdef int64_t mark_leaving(Table *table, bint leaves) noexcept nogil:
    """All entries with retired versions; gives the bytes of those that have nothing else."""
    cdef int64_t free_bytes = 0
    cdef Snap *snap = table.oldest
    cdef Blob *blob
    while snap != NULL:
        blob = snap.kept
        while blob != NULL:
            blob.entry.leaves = leaves
            if blob.entry.head == NULL and blob.entry.past == blob:
                free_bytes += entry_bytes(blob.entry)
            blob = blob.fellow
        snap = snap.newer
    return free_bytes


cdef inline Blob *visible(const Entry *entry, const Snap *snap) noexcept nogil:
    cdef Blob *blob
    if snap == NULL:
        return entry.head
    if entry.head != NULL and entry.head.version <= snap.at:
        return entry.head
    blob = entry.past
    while blob != NULL and blob.version > snap.at:
        blob = blob.older
    return blob if blob != NULL and blob.ended > snap.at else NULL


cdef inline bint still_open(Table *table, Snap *snap, int64_t age_ms) noexcept nogil:
    if snap.open and age_ms >= snap.deadline_ms:
        end(table, snap)
    return snap.open


cdef void row_fill(Row *row, Entry *entry, Blob *blob) noexcept nogil:
    __atomic_fetch_add(&blob.holders, 1, __ATOMIC_RELAXED)
    row.blob = blob
    row.key_bytes = entry.node.key_bytes
    row.refs = entry.refs
    row.pinned = entry.pinned


cdef Outcome table_snapshot(
    Table *table, Snap *snap, int64_t deadline_ms, bint yields, bint wait
) noexcept nogil:
    """Opens `snap`, the caller's memory, at this moment; it must be closed before it is freed."""
    if not lock(table, wait):
        return BUSY
    if table.snapshots >= SNAPSHOTS_MAX:
        unlock(table)
        return FULL
    snap.at = table.version
    snap.deadline_ms = deadline_ms
    snap.yields = yields
    snap.kept = NULL
    snap.open = True
    snap.newer = NULL
    snap.older = table.newest
    if table.newest != NULL:
        table.newest.newer = snap
    else:
        table.oldest = snap
    table.newest = snap
    __atomic_fetch_add(&table.snapshots, 1, __ATOMIC_RELAXED)
    unlock(table)
    return OK


cdef void table_close_snapshot(Table *table, Snap *snap) noexcept nogil:
    """Closes the snapshot; one that is closed or expired stays so."""
    lock(table, True)
    if snap.open:
        end(table, snap)
    unlock(table)


cdef Outcome table_get_at(
    Table *table, Snap *snap, const unsigned char *key, uint32_t key_bytes, int64_t age_ms,
    bint wait, Blob **found
) noexcept nogil:
    """The version the snapshot sees, held for the caller; not a use."""
    cdef uint64_t hash = key_hash(key, key_bytes, table.secret)
    cdef Outcome outcome = EXPIRED
    cdef Entry *entry
    if not lock(table, wait):
        return BUSY
    if still_open(table, snap, age_ms):
        entry = find(table, key, key_bytes, hash)
        found[0] = visible(entry, snap) if entry != NULL else NULL
        outcome = NOT_FOUND
        if found[0] != NULL:
            __atomic_fetch_add(&found[0].holders, 1, __ATOMIC_RELAXED)
            outcome = OK
    unlock(table)
    return outcome


cdef IndexNode *listing_start(Table *table, const Listing *listing) noexcept nogil:
    cdef uint32_t common = min(listing.prefix_bytes, listing.after_bytes)
    cdef int order = -1
    cdef IndexNode *node
    if listing.after != NULL:
        order = memcmp(listing.after, listing.prefix, common)
        if order == 0:
            order = 0 if listing.after_bytes >= listing.prefix_bytes else -1
    if order < 0:
        return index_at_or_after(&table.index, listing.prefix, listing.prefix_bytes)
    node = index_at_or_after(&table.index, listing.after, listing.after_bytes)
    if (node != NULL and node.key_bytes == listing.after_bytes
            and memcmp(node.key, listing.after, node.key_bytes) == 0):
        node = node.next
    return node


cdef void list_rows(Table *table, Snap *snap, Listing *listing) noexcept nogil:
    cdef IndexNode *node = listing_start(table, listing)
    cdef uint32_t keys_used = 0
    cdef Row *row
    cdef Blob *blob
    while (node != NULL and node.key_bytes >= listing.prefix_bytes
           and memcmp(node.key, listing.prefix, listing.prefix_bytes) == 0):
        blob = visible(<Entry *>node, snap)
        if blob != NULL:
            if (listing.rows_count == listing.rows_max
                    or listing.keys_max - keys_used < node.key_bytes):
                listing.complete = False
                return
            row = &listing.rows[listing.rows_count]
            row_fill(row, <Entry *>node, blob)
            row.key_at = keys_used
            memcpy(listing.keys + keys_used, node.key, node.key_bytes)
            keys_used += node.key_bytes
            listing.rows_count += 1
        node = node.next
    listing.complete = True


cdef Outcome table_list(
    Table *table, Snap *snap, Listing *listing, int64_t age_ms, bint wait
) noexcept nogil:
    """Rows in key order, as many as fit, of the snapshot or (NULL) of now; each blob is held."""
    cdef Outcome outcome = OK
    listing.rows_count = 0
    if not lock(table, wait):
        return BUSY
    if snap == NULL or still_open(table, snap, age_ms):
        list_rows(table, snap, listing)
    else:
        outcome = EXPIRED
    unlock(table)
    return outcome

"""Walks the records of a log of RocksDB: which sequence numbers it has, and where it ends.

Rule: bytes in, numbers out, and what they are for is said in spear/kv/logs.py. No length is
believed before it was held against its block and the file.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    BLOCK_BYTES = 32768
    HEAD_BYTES = 7  # checksum, length, kind
    BATCH_BYTES = 12  # at the beginning of a record: its first sequence number, and how many
    WHOLE = 1
    FIRST = 2
    LAST = 4
    NONE = -1

cdef uint64_t SEQUENCE_MAX = (<uint64_t>1 << 56) - 1

cdef struct Walk:
    uint64_t first
    uint64_t next
    Py_ssize_t end
    int taken  # bytes in `batch`; NONE: of no record
    unsigned char batch[BATCH_BYTES]


def walked(const unsigned char[::1] data not None):
    """See logwalk.pyi."""
    cdef Py_ssize_t size = data.shape[0]
    cdef Walk walk
    cdef bint torn = False
    walk.first = walk.next = 0
    walk.end = 0
    walk.taken = NONE
    if size:
        with nogil:
            _walk(&walk, &data[0], size)
            torn = not _is_zeros(&data[0] + walk.end, size - walk.end)
    return walk.first, walk.next, walk.end, torn


cdef void _walk(Walk *walk, const unsigned char *data, Py_ssize_t size) noexcept nogil:
    """Damage of another kind is RocksDB's to find: nothing behind it counts, and nothing of it is
    cut."""
    cdef Py_ssize_t at = 0, left, length
    cdef int kind
    while size - at >= HEAD_BYTES:
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < HEAD_BYTES:
            at += left
            continue
        length = data[at + 4] | data[at + 5] << 8
        kind = data[at + 6]
        if kind < WHOLE or kind > LAST or HEAD_BYTES + length > left:
            walk.end = at
            return
        at += HEAD_BYTES
        if length > size - at:
            break
        _take(walk, kind, data + at, length)
        at += length
        if (kind == WHOLE or kind == LAST) and walk.taken != NONE and not _count(walk):
            break
    walk.end = size


cdef void _take(Walk *walk, int kind, const unsigned char *piece, Py_ssize_t length) noexcept nogil:
    """The beginning of a record, which may come in pieces."""
    if kind == WHOLE or kind == FIRST:
        walk.taken = 0
    if walk.taken == NONE:
        return
    cdef int more = <int>min(length, <Py_ssize_t>(BATCH_BYTES - walk.taken))
    memcpy(walk.batch + walk.taken, piece, more)
    walk.taken += more


cdef bint _count(Walk *walk) noexcept nogil:
    """Of a record that is all there; whether it is a batch."""
    cdef uint64_t sequence = 0
    cdef uint32_t count = 0
    cdef int at
    if walk.taken < BATCH_BYTES:
        return False
    for at in range(8):
        sequence |= <uint64_t>walk.batch[at] << 8 * at
    for at in range(4):
        count |= <uint32_t>walk.batch[8 + at] << 8 * at
    if sequence > SEQUENCE_MAX:
        return False
    walk.first = walk.first or sequence
    walk.next = max(walk.next, sequence + count)
    walk.taken = NONE
    return True


cdef bint _is_zeros(const unsigned char *data, Py_ssize_t size) noexcept nogil:
    return size == 0 or (data[0] == 0 and memcmp(data, data + 1, size - 1) == 0)

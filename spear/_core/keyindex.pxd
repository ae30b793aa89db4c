"""The contract of the ordered index: keys in byte order, no memory of its own.

Rule: an IndexNode is a member of what it indexes; the owner allocates it, sets `key` and
`key_bytes`, keeps both unchanged while it is in, and guards every call with its own lock.
"""

from libc.stdint cimport uint32_t


cdef struct IndexNode:
    const unsigned char *key
    uint32_t key_bytes
    uint32_t bit               # first bit in which the two sides differ; NO_BIT: not in use
    IndexNode *child[2]        # tagged: bit 0 set is a leaf
    IndexNode *next            # in key order
    IndexNode *prev


cdef struct KeyIndex:
    IndexNode *root            # tagged as children are
    IndexNode *first


cdef void index_insert(KeyIndex *index, IndexNode *node) noexcept nogil
cdef void index_remove(KeyIndex *index, IndexNode *node) noexcept nogil
cdef IndexNode *index_at_or_after(
    KeyIndex *index, const unsigned char *key, uint32_t key_bytes
) noexcept nogil

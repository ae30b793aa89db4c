# cython: language_level=3
"""Keys in byte order: a crit-bit tree whose n - 1 branches live inside the n indexed nodes.

Rule: every node's own branch is an ancestor of its leaf, so a removed leaf can always hand the
branch it frees to the node whose branch must stay; inserting and removing never allocate.

A branch holds the first bit in which its two sides differ. A bit's number is `byte << 4 | n`:
n = 0 asks whether the key has that byte at all (so a prefix sorts before its continuations),
n = 1..8 are its bits, the highest first. Depth is at most nine bits a key byte, about log2(n) for
ordinary keys. Nodes are also threaded in key order, so walking a range touches no branch.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp

cdef extern from *:
    """
    #define NO_BIT UINT32_MAX
    """
    const uint32_t NO_BIT
    int __builtin_clz(uint32_t value) noexcept nogil


cdef inline bint is_leaf(IndexNode *link) noexcept nogil:
    return <size_t>link & 1


cdef inline IndexNode *leaf(IndexNode *node) noexcept nogil:
    return <IndexNode *>(<size_t>node | 1)


cdef inline IndexNode *node_of(IndexNode *link) noexcept nogil:
    return <IndexNode *>(<size_t>link & ~<size_t>1)


cdef inline uint32_t side(
    const unsigned char *key, uint32_t key_bytes, uint32_t bit
) noexcept nogil:
    """On which side of a branch at `bit` the key lies."""
    cdef uint32_t at = bit >> 4
    cdef uint32_t n = bit & 15
    if at >= key_bytes:
        return 0
    return 1 if n == 0 else (key[at] >> (8 - n)) & 1


cdef uint32_t first_difference(
    const unsigned char *a, uint32_t a_bytes, const unsigned char *b, uint32_t b_bytes
) noexcept nogil:
    cdef uint32_t common = a_bytes if a_bytes < b_bytes else b_bytes
    cdef uint32_t at = 0
    while at + 8 <= common and memcmp(a + at, b + at, 8) == 0:
        at += 8
    while at < common and a[at] == b[at]:
        at += 1
    if at < common:
        return at << 4 | <uint32_t>(__builtin_clz(<uint32_t>(a[at] ^ b[at])) - 23)
    return NO_BIT if a_bytes == b_bytes else at << 4


cdef inline IndexNode *nearest(
    KeyIndex *index, const unsigned char *key, uint32_t key_bytes
) noexcept nogil:
    """A node that shares with the key at least as many leading bits as any other."""
    cdef IndexNode *link = index.root
    while not is_leaf(link):
        link = link.child[side(key, key_bytes, link.bit)]
    return node_of(link)


cdef inline IndexNode **place(
    KeyIndex *index, const unsigned char *key, uint32_t key_bytes, uint32_t bit
) noexcept nogil:
    """The link above which a branch at `bit` belongs on the key's way."""
    cdef IndexNode **link = &index.root
    while not is_leaf(link[0]) and link[0].bit < bit:
        link = &link[0].child[side(key, key_bytes, link[0].bit)]
    return link


cdef inline IndexNode *outermost(IndexNode *link, int which) noexcept nogil:
    while not is_leaf(link):
        link = link.child[which]
    return node_of(link)


cdef void thread_between(
    KeyIndex *index, IndexNode *node, IndexNode *prev, IndexNode *next
) noexcept nogil:
    node.prev = prev
    node.next = next
    if prev != NULL:
        prev.next = node
    else:
        index.first = node
    if next != NULL:
        next.prev = node


cdef void index_insert(KeyIndex *index, IndexNode *node) noexcept nogil:
    """Adds a node; its key must not be in yet."""
    cdef IndexNode *near
    cdef IndexNode **link
    cdef uint32_t which
    if index.root == NULL:
        node.bit = NO_BIT
        index.root = leaf(node)
        thread_between(index, node, NULL, NULL)
        return
    near = nearest(index, node.key, node.key_bytes)
    node.bit = first_difference(node.key, node.key_bytes, near.key, near.key_bytes)
    link = place(index, node.key, node.key_bytes, node.bit)
    which = side(node.key, node.key_bytes, node.bit)
    if which:
        near = outermost(link[0], 1)
        thread_between(index, node, near, near.next)
    else:
        near = outermost(link[0], 0)
        thread_between(index, node, near.prev, near)
    node.child[which] = leaf(node)
    node.child[1 - which] = link[0]
    link[0] = node


cdef void index_remove(KeyIndex *index, IndexNode *node) noexcept nogil:
    """Takes a node out; it must be in."""
    cdef IndexNode **link = &index.root
    cdef IndexNode **above = NULL      # the link to the branch over the leaf
    cdef IndexNode **own = NULL        # the link to the node's own branch
    cdef IndexNode *branch
    unthread(index, node)
    while not is_leaf(link[0]):
        if link[0] == node:
            own = link
        above = link
        link = &link[0].child[side(node.key, node.key_bytes, link[0].bit)]
    if above == NULL:
        index.root = NULL
        return
    branch = above[0]
    above[0] = branch.child[1] if link == &branch.child[0] else branch.child[0]
    if branch == node:
        return
    if own == NULL:
        branch.bit = NO_BIT
        return
    branch.bit = node.bit
    branch.child[0] = node.child[0]
    branch.child[1] = node.child[1]
    own[0] = branch


cdef void unthread(KeyIndex *index, IndexNode *node) noexcept nogil:
    if node.prev != NULL:
        node.prev.next = node.next
    else:
        index.first = node.next
    if node.next != NULL:
        node.next.prev = node.prev


cdef IndexNode *index_at_or_after(
    KeyIndex *index, const unsigned char *key, uint32_t key_bytes
) noexcept nogil:
    """The first node whose key is not below `key`; NULL when there is none."""
    cdef IndexNode *near
    cdef IndexNode *subtree
    cdef uint32_t bit
    if index.root == NULL:
        return NULL
    near = nearest(index, key, key_bytes)
    bit = first_difference(key, key_bytes, near.key, near.key_bytes)
    if bit == NO_BIT:
        return near
    subtree = place(index, key, key_bytes, bit)[0]
    if side(key, key_bytes, bit):
        return outermost(subtree, 1).next
    return outermost(subtree, 0)

"""The contract of the names that guests give to objects; see objkeys.pyx."""

from libc.stdint cimport int32_t, uint8_t, uint32_t

from spear._core.objentries cimport KEY_BYTES_MAX
from spear._core.objlease cimport lease_t

cdef struct objkey_t:
    uint32_t size
    unsigned char bytes[KEY_BYTES_MAX]

# The full key that a guest's name stands for: 0, -EINVAL or -EACCES (abibits).
cdef int32_t objkey_of(
    objkey_t *key, const lease_t *lease, const uint8_t *name, uint32_t size) noexcept nogil
# The same for the beginning of keys, which may end with the namespace.
cdef int32_t objkey_prefix_of(
    objkey_t *key, const lease_t *lease, const uint8_t *name, uint32_t size) noexcept nogil
# Whether the bytes are UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
cdef bint utf8_valid(const uint8_t *text, uint32_t size) noexcept nogil

# cython: language_level=3
"""From the name that a guest gives to an object to its full key, if the guest may reach it.

Rule: names are bytes and are never normalised: the namespace is decided by how a name begins, and
nothing behind can leave it. `shared/...` is common; `/<task>/...` is that task's, for itself and
for whom it is granted; any other name lies under `/<own task>/`.

A name is valid UTF-8 (a lossy reading would merge keys) and has something behind its namespace;
with the namespace it has at most KEY_BYTES_MAX bytes.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, strlen

from spear._core.abibits cimport EACCES, EINVAL

cdef enum:
    SHARED_BYTES = 7

cdef const char *_SHARED = "shared/"


cdef inline bint _begins(
    const uint8_t *name, uint32_t size, const void *start, size_t start_size
) noexcept nogil:
    return size >= start_size and memcmp(name, start, start_size) == 0


cdef bint _granted(const lease_t *lease, const uint8_t *name, uint32_t size) noexcept nogil:
    cdef const char *start = lease.granted
    cdef const char *stop = lease.granted + lease.granted_size
    cdef size_t start_size
    while start < stop:
        start_size = strlen(start)
        if _begins(name, size, start, start_size):
            return True
        start += start_size + 1
    return False


cdef int32_t _named_task(
    const lease_t *lease, const uint8_t *name, uint32_t size, uint32_t *space
) noexcept nogil:
    """For a name that begins with '/': sets the size of its namespace, "/task/"."""
    cdef const uint8_t *slash = <const uint8_t *>memchr(name + 1, c'/', size - 1)
    if slash == NULL or slash == name + 1:
        return -EINVAL
    space[0] = <uint32_t>(slash - name) + 1
    if _begins(name, size, lease.home, lease.home_size) or _granted(lease, name, size):
        return 0
    return -EACCES


cdef int32_t _full(
    objkey_t *key, const lease_t *lease, const uint8_t *name, uint32_t size, uint32_t rest_min
) noexcept nogil:
    cdef uint32_t added = 0        # bytes of the own namespace put before the name
    cdef uint32_t space = 0        # bytes of the namespace that the name itself has
    cdef int32_t answer = 0
    if size > KEY_BYTES_MAX or not utf8_valid(name, size):
        return -EINVAL
    if size > 0 and name[0] == c'/':
        answer = _named_task(lease, name, size, &space)
    elif _begins(name, size, _SHARED, SHARED_BYTES):
        space = SHARED_BYTES
    else:
        added = lease.home_size
    if answer != 0:
        return answer
    if size - space < rest_min or added + size > KEY_BYTES_MAX:
        return -EINVAL
    memcpy(key.bytes, lease.home, added)
    if size > 0:
        memcpy(key.bytes + added, name, size)
    key.size = added + size
    return 0


cdef int32_t objkey_of(
    objkey_t *key, const lease_t *lease, const uint8_t *name, uint32_t size
) noexcept nogil:
    return _full(key, lease, name, size, 1)


cdef int32_t objkey_prefix_of(
    objkey_t *key, const lease_t *lease, const uint8_t *name, uint32_t size
) noexcept nogil:
    return _full(key, lease, name, size, 0)


cdef bint utf8_valid(const uint8_t *text, uint32_t size) noexcept nogil:
    cdef uint32_t at = 0, following
    cdef uint8_t first, low, high
    while at < size:
        first = text[at]
        at += 1
        if first < 0x80:
            continue
        # The second byte's range rules out overlong forms, surrogates and what is too large.
        low, high = 0x80, 0xBF
        if 0xC2 <= first <= 0xDF:
            following = 1
        elif 0xE0 <= first <= 0xEF:
            following = 2
            low = 0xA0 if first == 0xE0 else 0x80
            high = 0x9F if first == 0xED else 0xBF
        elif 0xF0 <= first <= 0xF4:
            following = 3
            low = 0x90 if first == 0xF0 else 0x80
            high = 0x8F if first == 0xF4 else 0xBF
        else:
            return False
        if size - at < following or not low <= text[at] <= high:
            return False
        at += 1
        while following > 1:
            if not 0x80 <= text[at] <= 0xBF:
                return False
            at, following = at + 1, following - 1
    return True

"""The second half of a durable put: the object is in the table, and the host makes it outlive that.

Rule: 0 is answered once the host says that it is kept, never before; where nobody keeps objects, or
there is no room for one more, nothing is put. While its guest waits the version is held, as by a
reader, so that it does not have to make room. Source: the guest ABI, section 16.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport strlen

from spear._core.abibits cimport EIO, ENOSYS
from spear._core.guest cimport LEVEL_WARN, STREAM_LOG, bool_t, guest_log, guest_t
from spear._core.imports cimport posted_row
from spear._core.innerwaits cimport guest_can_wait, guest_wait
from spear._core.objentries cimport (
    OK, Row, Table, __ATOMIC_RELAXED, __atomic_load_n, blob_release)
from spear._core.objlease cimport lease_t
from spear._core.objtable cimport table_stat
from spear._core.post cimport (
    OBJECT_PUT, TURN_GUEST, post_t, request_about, request_ask, request_close, request_t)
from spear._core.sync cimport load32

cdef const char *_NOBODY = (
    "object_put with the durable flag answers -ENOSYS: objects are in memory only here")
cdef const char *_IN_PLACE = (
    "object_put with the durable flag answers -ENOSYS: a call in place cannot wait for it")

cdef const char *_NO_ROOM = (
    "object_put with the durable flag answers -ENOMEM: no room for it beside what is kept "
    "(objects.durable_size)")

cdef posted_row _row               # its handler is given the full key and the version
_row.module, _row.name, _row.shape, _row.op = b"spear", b"object_put", b"bI", OBJECT_PUT


cdef bint _has_keeper(guest_t *guest) noexcept nogil:
    return guest.post != NULL and (<post_t *>guest.post).answers[OBJECT_PUT]


cdef bint durable_served(guest_t *guest) noexcept nogil:
    return _has_keeper(guest) and guest_can_wait(guest)


cdef int32_t durable_refused(guest_t *guest) noexcept nogil:
    """Who asks for more than memory must not be told that it was done."""
    _warn(guest, _IN_PLACE if _has_keeper(guest) else _NOBODY)
    return -ENOSYS


cdef void _warn(guest_t *guest, const char *why) noexcept nogil:
    """Once a guest."""
    if not guest.durable_warned:
        guest.durable_warned = True
        guest_log(guest, LEVEL_WARN, STREAM_LOG, why, strlen(why))


cdef bint durable_fits(guest_t *guest, const objkey_t *key, int64_t value_bytes) noexcept nogil:
    """As far as the host has said how much room there is. What takes the place of another needs
    only what it is larger."""
    cdef Table *table = <Table *>(<const lease_t *>guest.objects).table
    cdef int64_t room = __atomic_load_n(&table.durable_room, __ATOMIC_RELAXED)
    cdef int64_t more = value_bytes + key.size
    cdef Row row
    if more <= room:
        return True
    if table_stat(table, key.bytes, key.size, True, &row) == OK:
        more = value_bytes - <int64_t>row.blob.value_bytes
        blob_release(table, row.blob)
        if more <= 0 or more <= room:
            return True
    _warn(guest, _NO_ROOM)
    return False


cdef bool_t _answered(void *env) noexcept nogil:
    cdef request_t *request = <request_t *>env
    if load32(&request.turn) == TURN_GUEST:
        return True
    request.guest.parking = True
    return False


cdef int32_t _asked(guest_t *guest, const objkey_t *key, uint64_t version) noexcept nogil:
    cdef request_t *request = request_about(guest, &_row, key.bytes, key.size, <int64_t>version)
    cdef int32_t status = -EIO
    if request == NULL:
        return -EIO
    if request_ask(request):
        if not guest_wait(guest, _answered, request):
            return -EIO            # never seen; who ends the guest closes what it asked
        status = request.status
    request_close(guest)
    return status


cdef int32_t durable_kept(
    guest_t *guest, const objkey_t *key, uint64_t version
) noexcept nogil:
    cdef Table *table = <Table *>(<const lease_t *>guest.objects).table
    cdef Row row
    cdef int32_t answer
    if table_stat(table, key.bytes, key.size, True, &row) != OK:
        return -EIO                # others had it go before anybody could keep it
    answer = _asked(guest, key, version)
    blob_release(table, row.blob)
    return answer

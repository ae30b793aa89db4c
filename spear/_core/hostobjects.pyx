"""The object calls of guests: put, get, stat, list, delete, references and pins.

Rule: no GIL, no Python object; values go straight between the guest's memory and the store, whose
lock is never held while a value of 64 KiB or more is copied nor over more than one page of a list.
All arguments are checked before anything is changed: pointers (-EFAULT), then the name (-EINVAL,
-EACCES), then the rest (-EINVAL). A guest is shown full keys, which it can give back as they are.
Source: the guest ABI, section 16.
"""

from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from spear._core cimport engineapi
from spear._core.abibits cimport *
from spear._core.engineapi cimport *
from spear._core.guest cimport (
    CAUSE_DEADLINE, guest_charge, guest_doom, guest_now_ns, guest_t, guest_wall_ns)
from spear._core.hostdurable cimport durable_fits, durable_kept, durable_refused, durable_served
from spear._core.jsontext cimport text_free, text_number, text_say, text_string, text_t
from spear._core.objentries cimport (
    ABOVE_MAX, ANY_VERSION, BELOW_ZERO, CONFLICT, FULL, INVALID, IN_USE, KEY_BYTES_MAX, NOT_FOUND,
    NO_MEMORY, OK, PUT, REMOVE, Blob, Change, Listing, Moment, Outcome, Row, Snap, Table,
    blob_metadata, blob_release, blob_value)
from spear._core.objkeys cimport objkey_of, objkey_prefix_of, objkey_t, utf8_valid
from spear._core.objlease cimport OBJECT_CALLS, Lease, lease_t, object_call_t
from spear._core.objsnaps cimport table_close_snapshot, table_list, table_snapshot
from spear._core.objstore cimport ObjectStore
from spear._core.objtable cimport (
    moment_now, table_change, table_get, table_pin, table_refs, table_stat)
from spear._core.sync cimport load32

from spear._core.tasknames import check_task_name
from spear.errors import InvalidArgument

wasmtime_bind(engineapi.functions())

cdef enum:
    ROWS = 64                  # of a list, taken under one hold of the lock
    LIMIT_MAX = 10000
    GRANTS_MAX = 256
    FLAG_DURABLE = 1           # of a put
    FLAG_FORCE = 1             # of a delete

LIST_LIMIT_MAX = LIMIT_MAX

cdef struct list_t:
    # One list under way.
    Listing listing
    objkey_t prefix
    objkey_t start             # where the guest asked to begin; size 0: at the first
    objkey_t last              # where the next page begins
    uint32_t limit
    uint32_t shown
    text_t text
    Row rows[ROWS]
    unsigned char keys[ROWS * KEY_BYTES_MAX]


# What the calls share.

cdef inline Table *_table(guest_t *guest) noexcept nogil:
    return <Table *>(<const lease_t *>guest.objects).table


cdef inline Moment _now(guest_t *guest) noexcept nogil:
    """Stamps are of the guest's own time; the ages of snapshots are the machine's."""
    cdef Moment now = moment_now(_table(guest))
    if guest.world != NULL:
        now.wall_ms = guest_wall_ns(guest) // 1000000
    return now


cdef int32_t _error(Outcome outcome) noexcept nogil:
    if outcome == OK:
        return 0
    if outcome == NOT_FOUND:
        return -ENOENT
    if outcome == CONFLICT:
        return -ESTALE
    if outcome == IN_USE:
        return -EBUSY
    if outcome == FULL or outcome == NO_MEMORY:
        return -ENOMEM
    if outcome == BELOW_ZERO or outcome == ABOVE_MAX or outcome == INVALID:
        return -EINVAL
    return -EIO                # the store has no versions left


cdef int32_t _key(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values, objkey_t *key
) noexcept nogil:
    """The full key of the name that the first two arguments give."""
    cdef int32_t size = values[1].i32
    cdef uint8_t *name = abi_span(guest, caller, values[0].i32, size)
    if name == NULL:
        return -EFAULT
    return objkey_of(key, <const lease_t *>guest.objects, name, <uint32_t>size)


cdef bint _version_place(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, uint8_t **place
) noexcept nogil:
    """Where the guest wants a version: nowhere (NULL) for 0. False: not inside its memory."""
    place[0] = NULL if at == 0 else abi_span(guest, caller, at, 8)
    return at == 0 or place[0] != NULL


cdef bint _room(
    guest_t *guest, wasmtime_caller_t *caller, int32_t out_at, int32_t len_at, uint64_t *room
) noexcept nogil:
    """How long an answer can be, by what the guest says and what its memory holds."""
    cdef uint8_t *length = abi_span(guest, caller, len_at, 4)
    cdef uint64_t memory
    cdef uint32_t said
    if length == NULL:
        return False
    memcpy(&said, length, 4)
    memory = wasmtime_memory_data_size(guest.context, &guest.memory)
    room[0] = said
    if out_at < 0 or <uint64_t>out_at >= memory:
        room[0] = 0
    elif said > memory - <uint64_t>out_at:
        room[0] = memory - <uint64_t>out_at
    return True


cdef int32_t _give(
    guest_t *guest, wasmtime_caller_t *caller, const void *data, uint64_t size, int32_t out_at,
    int32_t len_at
) noexcept nogil:
    """"len in/out", also for what is longer than any guest can take: then -ENOSPC."""
    cdef uint8_t *length
    cdef uint32_t told = 0xFFFFFFFF
    cdef int32_t answer
    if size <= INT32_MAX:
        answer = abi_give(guest, caller, data, <uint32_t>size, out_at, len_at)
        guest_charge(guest, <uint64_t>answer if answer > 0 else 0)
        return answer
    length = abi_span(guest, caller, len_at, 4)
    if length == NULL:
        return -EFAULT
    if size < told:
        told = <uint32_t>size
    memcpy(length, &told, 4)
    return -ENOSPC


# Values.

cdef int32_t _put(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef objkey_t key
    cdef Change change
    cdef uint8_t *version
    cdef uint32_t failed
    cdef Outcome outcome
    cdef int64_t expected = values[4].i64
    cdef int32_t answer, flags = values[5].i32
    cdef uint8_t *value = abi_span(guest, caller, values[2].i32, values[3].i32)
    if value == NULL or not _version_place(guest, caller, values[6].i32, &version):
        return -EFAULT
    answer = _key(guest, caller, values, &key)
    if answer != 0:
        return answer
    if expected < ANY_VERSION or flags & ~FLAG_DURABLE:
        return -EINVAL
    if flags & FLAG_DURABLE and not durable_served(guest):
        return durable_refused(guest)
    if flags & FLAG_DURABLE and not durable_fits(guest, &key, values[3].i32):
        return -ENOMEM
    guest_charge(guest, <uint64_t>values[3].i32)
    if load32(&guest.kill) != 0:
        return 0                   # never seen: the fuel is used up, and nothing is stored
    memset(&change, 0, sizeof(change))
    change.kind, change.expected = PUT, expected
    change.key, change.key_bytes = key.bytes, key.size
    change.value, change.value_bytes = value, <uint64_t>values[3].i32
    outcome = table_change(_table(guest), &change, 1, _now(guest), True, &failed)
    if outcome == CONFLICT and expected == 0:
        return -EEXIST
    if outcome == OK and version != NULL:
        memcpy(version, &change.version, 8)
    if outcome == OK and flags & FLAG_DURABLE:
        return durable_kept(guest, &key, change.version)
    return _error(outcome)


cdef int32_t _get(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef objkey_t key
    cdef Blob *blob
    cdef uint8_t *version
    cdef uint64_t room
    cdef Outcome outcome
    cdef int32_t answer
    if not (_room(guest, caller, values[2].i32, values[3].i32, &room)
            and _version_place(guest, caller, values[4].i32, &version)):
        return -EFAULT
    answer = _key(guest, caller, values, &key)
    if answer != 0:
        return answer
    outcome = table_get(_table(guest), key.bytes, key.size, True, &blob)
    if outcome != OK:
        return _error(outcome)
    answer = _give(
        guest, caller, blob_value(blob), blob.value_bytes, values[2].i32, values[3].i32)
    if answer >= 0 and version != NULL:
        memcpy(version, &blob.version, 8)
    blob_release(_table(guest), blob)
    return answer


cdef int32_t _delete(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef objkey_t key
    cdef Change change
    cdef uint32_t failed
    cdef int64_t expected = values[2].i64
    cdef int32_t flags = values[3].i32, answer = _key(guest, caller, values, &key)
    if answer != 0:
        return answer
    if expected < ANY_VERSION or flags & ~FLAG_FORCE:
        return -EINVAL
    memset(&change, 0, sizeof(change))
    change.kind, change.expected, change.force = REMOVE, expected, flags & FLAG_FORCE
    change.key, change.key_bytes = key.bytes, key.size
    return _error(table_change(_table(guest), &change, 1, _now(guest), True, &failed))


# References and pins.

cdef int32_t _count(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values, int sign
) noexcept nogil:
    cdef objkey_t key
    cdef Outcome outcome
    cdef uint64_t actual
    cdef int32_t refs = 0, count = values[2].i32, answer = _key(guest, caller, values, &key)
    if answer != 0:
        return answer
    if count < 1:
        return -EINVAL
    outcome = table_refs(
        _table(guest), key.bytes, key.size, sign * <int64_t>count, ANY_VERSION, True, &refs,
        &actual)
    return refs if outcome == OK else _error(outcome)


cdef int32_t _add_ref(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return _count(guest, caller, values, 1)


cdef int32_t _remove_ref(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return _count(guest, caller, values, -1)


cdef int32_t _hold(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values, bint pinned
) noexcept nogil:
    cdef objkey_t key
    cdef uint64_t actual
    cdef int32_t answer = _key(guest, caller, values, &key)
    if answer != 0:
        return answer
    return _error(
        table_pin(_table(guest), key.bytes, key.size, pinned, ANY_VERSION, True, &actual))


cdef int32_t _pin(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return _hold(guest, caller, values, True)


cdef int32_t _unpin(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    return _hold(guest, caller, values, False)


# What is known of objects, as JSON.

cdef void _say_metadata(text_t *text, const Blob *blob) noexcept nogil:
    """`objstore` packs keys and values in turn: a u32 length, then UTF-8."""
    cdef const unsigned char *at = blob_metadata(blob)
    cdef const unsigned char *stop = at + blob.metadata_bytes
    cdef uint32_t size
    cdef bint is_key = True
    text_say(text, b"{")
    while at < stop:
        memcpy(&size, at, 4)
        if is_key and at != blob_metadata(blob):
            text_say(text, b",")
        text_string(text, at + 4, size)
        if is_key:
            text_say(text, b":")
        at, is_key = at + 4 + size, not is_key
    text_say(text, b"}")


cdef void _say_object(
    text_t *text, const unsigned char *key, const Row *row, bint current
) noexcept nogil:
    """`current`: the row is of this moment; one of a snapshot may be of a version that is gone,
    which has no references and no pin."""
    cdef bint counts = current or row.blob.live
    text_say(text, b'{"key":')
    text_string(text, key, row.key_bytes)
    text_say(text, b',"size":')
    text_number(text, row.blob.value_bytes)
    text_say(text, b',"version":')
    text_number(text, row.blob.version)
    text_say(text, b',"refs":')
    text_number(text, <uint64_t>row.refs if counts else 0)
    if counts and row.pinned:
        text_say(text, b',"pinned":true')
    else:
        text_say(text, b',"pinned":false')
    text_say(text, b',"created_ms":')
    text_number(text, <uint64_t>row.blob.created_ms)
    text_say(text, b',"updated_ms":')
    text_number(text, <uint64_t>row.blob.updated_ms)
    text_say(text, b',"metadata":')
    _say_metadata(text, row.blob)
    text_say(text, b"}")


cdef int32_t _give_text(
    guest_t *guest, wasmtime_caller_t *caller, text_t *text, int32_t out_at, int32_t len_at
) noexcept nogil:
    if text.failed:
        return -ENOMEM
    return _give(guest, caller, text.data, text.size, out_at, len_at)


cdef int32_t _stat(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef objkey_t key
    cdef Row row
    cdef text_t text
    cdef Outcome outcome
    cdef int32_t answer
    memset(&text, 0, sizeof(text))
    if not _room(guest, caller, values[2].i32, values[3].i32, &text.room_max):
        return -EFAULT
    answer = _key(guest, caller, values, &key)
    if answer != 0:
        return answer
    outcome = table_stat(_table(guest), key.bytes, key.size, True, &row)
    if outcome != OK:
        return _error(outcome)
    _say_object(&text, key.bytes, &row, True)
    blob_release(_table(guest), row.blob)
    answer = _give_text(guest, caller, &text, values[2].i32, values[3].i32)
    text_free(&text)
    return answer


# Lists.

cdef void _begin_list(list_t *list) noexcept nogil:
    list.last, list.shown, list.text.size = list.start, 0, 0
    list.listing.complete = False
    text_say(&list.text, b"[")


cdef void _page(list_t *list, Table *table, Snap *snap) noexcept nogil:
    """Adds one hold's rows. A key that is not UTF-8 (Python can store one) is left out: no guest
    could ask for it, nor go on listing behind it."""
    cdef uint32_t i
    cdef Row *row
    cdef const unsigned char *key
    list.listing.after = list.last.bytes if list.last.size else NULL
    list.listing.after_bytes = list.last.size
    list.listing.rows_max = min(list.limit - list.shown, <uint32_t>ROWS)
    table_list(table, snap, &list.listing, 0, True)
    for i in range(list.listing.rows_count):
        row = &list.rows[i]
        key = list.keys + row.key_at
        if utf8_valid(key, row.key_bytes):
            if list.shown > 0:
                text_say(&list.text, b",")
            _say_object(&list.text, key, row, snap == NULL)
            list.shown += 1
        blob_release(table, row.blob)
    if list.listing.rows_count > 0:
        memcpy(list.last.bytes, key, row.key_bytes)
        list.last.size = row.key_bytes


cdef inline bint _done(const list_t *list) noexcept nogil:
    return list.listing.complete or list.shown == list.limit


cdef bint _over(guest_t *guest) noexcept nogil:
    """Whether the guest's end was asked for or its deadline has come: a long list looks."""
    if guest_now_ns(guest) >= guest.deadline_ns:
        guest_doom(guest, CAUSE_DEADLINE)
    return load32(&guest.kill) != 0


cdef Outcome _collect(list_t *list, guest_t *guest) noexcept nogil:
    """All of one moment: one page where that is all, else the pages of a snapshot."""
    cdef Table *table = _table(guest)
    cdef Snap snap
    _begin_list(list)
    _page(list, table, NULL)
    if not _done(list):
        if table_snapshot(table, &snap, INT64_MAX, False, True) != OK:
            return FULL
        _begin_list(list)
        while not _done(list) and not _over(guest):
            _page(list, table, &snap)
        table_close_snapshot(table, &snap)
    text_say(&list.text, b"]")
    return OK


cdef int32_t _list_names(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values, list_t *list
) noexcept nogil:
    """Prefix and start of the list, as full keys."""
    cdef const lease_t *lease = <const lease_t *>guest.objects
    cdef uint8_t *prefix = abi_span(guest, caller, values[0].i32, values[1].i32)
    cdef uint8_t *start = abi_span(guest, caller, values[2].i32, values[3].i32)
    cdef int32_t answer
    if prefix == NULL or start == NULL or not _room(
            guest, caller, values[5].i32, values[6].i32, &list.text.room_max):
        return -EFAULT
    answer = objkey_prefix_of(&list.prefix, lease, prefix, <uint32_t>values[1].i32)
    if answer == 0 and values[3].i32 > 0:
        answer = objkey_prefix_of(&list.start, lease, start, <uint32_t>values[3].i32)
    return answer


cdef int32_t _list(
    guest_t *guest, wasmtime_caller_t *caller, const wasmtime_val_raw_t *values
) noexcept nogil:
    cdef list_t *list = <list_t *>malloc(sizeof(list_t))
    cdef int32_t answer
    if list == NULL:
        return -ENOMEM
    memset(&list.text, 0, sizeof(text_t))
    list.start.size = 0
    answer = _list_names(guest, caller, values, list)
    if answer == 0 and not 1 <= values[4].i32 <= LIMIT_MAX:
        answer = -EINVAL
    if answer == 0:
        list.limit = <uint32_t>values[4].i32
        list.listing.prefix, list.listing.prefix_bytes = list.prefix.bytes, list.prefix.size
        list.listing.rows, list.listing.keys = list.rows, list.keys
        list.listing.keys_max = ROWS * KEY_BYTES_MAX
        answer = _error(_collect(list, guest))
    if answer == 0:
        answer = _give_text(guest, caller, &list.text, values[5].i32, values[6].i32)
    text_free(&list.text)
    free(list)
    return answer


cdef object_call_t[OBJECT_CALLS] _calls = [
    _put, _get, _stat, _list, _delete, _add_ref, _remove_ref, _pin, _unpin]


# Python's side.

def lend(ObjectStore store not None, str task not None, grants):
    """What the guests of `task` may reach of the store; see hostobjects.pyi."""
    if store.clock_ms is not None:
        raise InvalidArgument(
            "guests take the machine's time: a store that they use has no clock_ms of its own")
    if isinstance(grants, str):
        raise InvalidArgument(f"grants are a list of task names, found the text {grants!r}")
    names = [check_task_name(name) for name in grants]
    if len(names) > GRANTS_MAX:
        raise InvalidArgument(f"{len(names)} grants, at most {GRANTS_MAX} are taken")
    cdef bytes home = b"/" + check_task_name(task) + b"/"
    cdef bytes granted = b"".join(b"/" + name + b"/\0" for name in names)
    cdef Lease lease = Lease.__new__(Lease)
    lease.kept = store, home, granted
    lease.native.calls, lease.native.table = _calls, store.table
    lease.native.home, lease.native.home_size = home, <uint32_t>len(home)
    lease.native.granted, lease.native.granted_size = granted, <uint32_t>len(granted)
    return lease

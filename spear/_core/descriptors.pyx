"""The descriptors of one guest: numbers, what is open behind them, and which of them are ready.

Rule: a number is given out once. What is open is found by binary search in an array of at most
`open_max`; a closed number leaves seven bytes behind, so that it stays known, and a table that has
given out FDS_EVER_MAX numbers gives out no more. A scan of an epoll instance looks at each watched
descriptor once, so it costs time in proportion to what is watched, ready or not.
Source: the guest ABI, sections 1, 10 and 11.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove

from spear._core.abibits cimport *

cdef enum:
    ROOM_MIN = 8
    WATCHES_FACTOR = 4         # watches of one guest, as a multiple of open_max
    EVENTS_ALL = EPOLL_IN | EPOLL_OUT | EPOLL_ERR | EPOLL_HUP

cdef fd_ops _epoll_ops
_epoll_ops.kind, _epoll_ops.poll, _epoll_ops.release = FD_EPOLL, NULL, _free_epoll


# ---- the table

cdef fd_table *fd_table_new(uint32_t open_max) noexcept nogil:
    cdef fd_table *table = <fd_table *>calloc(1, sizeof(fd_table))
    if table != NULL:
        table.open_max = open_max
    return table


cdef void fd_table_free(fd_table *table) noexcept nogil:
    cdef uint32_t index
    for index in range(table.open_count):
        _release(&table.open[index])
    free(table.open)
    free(table.marks)
    free(table)


cdef void _release(descriptor_t *descriptor) noexcept nogil:
    if descriptor.ops.release != NULL:
        descriptor.ops.release(descriptor)


cdef bint _grow(void **items, uint32_t *room, uint32_t count, size_t item_bytes) noexcept nogil:
    """Room for one more."""
    cdef uint32_t wanted = room[0] * 2 if room[0] else ROOM_MIN
    cdef void *grown
    if count < room[0]:
        return True
    grown = realloc(items[0], wanted * item_bytes)
    if grown == NULL:
        return False
    items[0], room[0] = grown, wanted
    return True


cdef int32_t fd_open(
    fd_table *table, const fd_ops *ops, void *object, uint32_t note, uint8_t detail
) noexcept nogil:
    cdef descriptor_t *descriptor
    cdef fd_mark *mark
    if table.open_count >= table.open_max or table.given >= FDS_EVER_MAX:
        return -ENOMEM
    if not _grow(<void **>&table.open, &table.open_room, table.open_count, sizeof(descriptor_t)):
        return -ENOMEM
    if not _grow(<void **>&table.marks, &table.marks_room, table.given, sizeof(fd_mark)):
        return -ENOMEM
    descriptor = &table.open[table.open_count]
    descriptor.number, descriptor.ops = FD_FIRST + <int32_t>table.given, ops
    descriptor.object, descriptor.detail = object, detail
    mark = &table.marks[table.given]
    mark.note, mark.kind, mark.flags, mark.detail = note, ops.kind, 0, detail
    table.open_count += 1
    table.given += 1
    return descriptor.number


cdef descriptor_t *fd_find(fd_table *table, int32_t number, int kind) noexcept nogil:
    cdef uint32_t low = 0, high, middle
    if table == NULL:
        return NULL
    high = table.open_count
    while low < high:
        middle = (low + high) // 2
        if table.open[middle].number < number:
            low = middle + 1
        else:
            high = middle
    if low == table.open_count or table.open[low].number != number:
        return NULL
    return &table.open[low] if kind == 0 or table.open[low].ops.kind == kind else NULL


cdef fd_mark *fd_marked(fd_table *table, int32_t number) noexcept nogil:
    if table == NULL or number < FD_FIRST or number - FD_FIRST >= <int32_t>table.given:
        return NULL
    return &table.marks[number - FD_FIRST]


cdef int32_t fd_close(fd_table *table, int32_t number, uint32_t kinds) noexcept nogil:
    cdef fd_mark *mark = fd_marked(table, number)
    cdef descriptor_t *descriptor
    if mark == NULL or not kinds >> mark.kind & 1:
        return -EBADF
    descriptor = fd_find(table, number, 0)
    if descriptor == NULL:
        return 0
    mark.flags |= FD_CLOSED
    _release(descriptor)
    table.open_count -= 1
    memmove(descriptor, descriptor + 1, <size_t>(
        &table.open[table.open_count] - descriptor) * sizeof(descriptor_t))
    return 0


cdef uint32_t fd_poll(fd_table *table, int32_t number) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(table, number, 0)
    if descriptor == NULL:
        return EPOLL_HUP
    return descriptor.ops.poll(descriptor) if descriptor.ops.poll != NULL else 0


# ---- epoll

cdef int32_t epoll_open(fd_table *table) noexcept nogil:
    cdef epoll_t *epoll = <epoll_t *>calloc(1, sizeof(epoll_t))
    cdef int32_t number
    if epoll == NULL:
        return -ENOMEM
    epoll.table = table
    number = fd_open(table, &_epoll_ops, epoll, 0, 0)
    if number < 0:
        free(epoll)
    return number


cdef void _free_epoll(descriptor_t *descriptor) noexcept nogil:
    cdef epoll_t *epoll = <epoll_t *>descriptor.object
    epoll.table.watched -= epoll.count
    free(epoll.watches)
    free(epoll)


cdef uint32_t _watch_place(const epoll_t *epoll, int32_t fd) noexcept nogil:
    """Where the watch of `fd` stands, or would."""
    cdef uint32_t low = 0, high = epoll.count, middle
    while low < high:
        middle = (low + high) // 2
        if epoll.watches[middle].fd < fd:
            low = middle + 1
        else:
            high = middle
    return low


cdef int32_t _watch(epoll_t *epoll, uint32_t at, int32_t fd) noexcept nogil:
    """Makes a place for one more."""
    cdef fd_table *table = epoll.table
    if table.watched >= WATCHES_FACTOR * table.open_max:
        return -ENOMEM
    if not _grow(<void **>&epoll.watches, &epoll.room, epoll.count, sizeof(watch_entry)):
        return -ENOMEM
    memmove(&epoll.watches[at + 1], &epoll.watches[at], (epoll.count - at) * sizeof(watch_entry))
    epoll.watches[at].fd = fd
    epoll.count += 1
    table.watched += 1
    return 0


cdef void _unwatch(epoll_t *epoll, uint32_t at) noexcept nogil:
    epoll.count -= 1
    epoll.table.watched -= 1
    memmove(&epoll.watches[at], &epoll.watches[at + 1], (epoll.count - at) * sizeof(watch_entry))


cdef int32_t epoll_control(
    fd_table *table, int32_t number, int32_t op, int32_t fd, int32_t events
) noexcept nogil:
    cdef descriptor_t *descriptor = fd_find(table, number, FD_EPOLL)
    cdef fd_mark *target = fd_marked(table, fd)
    cdef epoll_t *epoll
    cdef uint32_t at
    cdef bint watched
    if number == fd or target != NULL and target.kind == FD_EPOLL:
        return -EINVAL
    if descriptor == NULL or target == NULL:
        return -EBADF
    if not EPOLL_ADD <= op <= EPOLL_DEL:
        return -EINVAL
    epoll = <epoll_t *>descriptor.object
    at = _watch_place(epoll, fd)
    watched = at < epoll.count and epoll.watches[at].fd == fd
    if op == EPOLL_ADD and not watched:
        watched = _watch(epoll, at, fd) == 0
        if not watched:
            return -ENOMEM
    if watched and op == EPOLL_DEL:
        _unwatch(epoll, at)
    elif watched:
        epoll.watches[at].events = <uint8_t>(events & EVENTS_ALL)
    return 0


cdef uint32_t epoll_scan(epoll_t *epoll, uint32_t count_max) noexcept nogil:
    cdef uint32_t index, found = 0
    cdef watch_entry *watch
    for index in range(epoll.count):
        watch = &epoll.watches[index]
        watch.ready = 0
        if found < count_max and watch.events != 0:
            watch.ready = <uint8_t>(fd_poll(epoll.table, watch.fd) & watch.events)
            found += watch.ready != 0
    return found


cdef void epoll_write(const epoll_t *epoll, uint8_t *out) noexcept nogil:
    cdef uint32_t index
    cdef int32_t record[2]
    for index in range(epoll.count):
        if epoll.watches[index].ready != 0:
            record[0], record[1] = epoll.watches[index].fd, epoll.watches[index].ready
            memcpy(out, record, sizeof(record))
            out += sizeof(record)

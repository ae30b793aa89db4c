"""Tells an event loop, from threads without the GIL, that something happened.

Rule: a list without locks, and an eventfd that is written only when the list was empty, so a burst
costs one wake-up. Notes are counted references; whoever takes the list lets them go.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc

from spear._core.sync cimport *

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int start, int flags)
    const int EFD_NONBLOCK, EFD_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *data, size_t size)
    ssize_t write(int fd, const void *data, size_t size)
    int close(int fd)


cdef hub_t *hub_new() noexcept nogil:
    cdef hub_t *hub = <hub_t *>calloc(1, sizeof(hub_t))
    if hub == NULL:
        return NULL
    hub.fd, hub.refs = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 1
    if hub.fd < 0:
        free(hub)
        return NULL
    return hub


cdef void hub_retain(hub_t *hub) noexcept nogil:
    add64(&hub.refs, 1)


cdef void hub_release(hub_t *hub) noexcept nogil:
    cdef note_t *note
    cdef note_t *following
    if add64(&hub.refs, -1) != 0:
        return
    note = hub_take(hub)
    while note != NULL:
        following = note.next
        note.release(note.what)
        free(note)
        note = following
    close(hub.fd)
    free(hub)


cdef bint hub_push(hub_t *hub, void *what, release_t release) noexcept nogil:
    cdef note_t *note = note_new(what, release)
    if note == NULL:
        release(what)
        return False
    hub_post(hub, note)
    return True


cdef note_t *note_new(void *what, release_t release) noexcept nogil:
    cdef note_t *note = <note_t *>malloc(sizeof(note_t))
    if note != NULL:
        note.what, note.release = what, release
    return note


cdef void hub_post(hub_t *hub, note_t *note) noexcept nogil:
    cdef void *head = NULL
    while True:
        head = load_ptr(&hub.head)
        note.next = <note_t *>head
        if cas_ptr(&hub.head, head, note):
            break
    if head == NULL:
        hub_ring(hub)


cdef void hub_ring(hub_t *hub) noexcept nogil:
    cdef uint64_t one = 1
    write(hub.fd, &one, 8)


cdef note_t *hub_take(hub_t *hub) noexcept nogil:
    return <note_t *>swap_ptr(&hub.head, NULL)


cdef void hub_collect(hub_t *hub, backlog_t *backlog) noexcept nogil:
    cdef note_t *note = hub_take(hub)
    cdef note_t *newest = note
    cdef note_t *oldest = NULL
    cdef note_t *older
    while note != NULL:
        older = note.next
        note.next, oldest = oldest, note
        note = older
    if oldest == NULL:
        return
    if backlog.oldest == NULL:
        backlog.oldest = oldest
    else:
        backlog.newest.next = oldest
    backlog.newest = newest


cdef void *backlog_pop(backlog_t *backlog) noexcept nogil:
    cdef note_t *note = backlog.oldest
    cdef void *what = NULL
    if note != NULL:
        what, backlog.oldest = note.what, note.next
        free(note)
    return what


cdef void hub_quiet(hub_t *hub) noexcept nogil:
    cdef uint64_t count
    read(hub.fd, &count, 8)

"""WASI's calls on directories: which ones were granted, and the entries of an opened one.

Rule: as in wasifiles.pyx. A cookie is the kernel's own offset, so it outlives changes of the
directory as that does, and nothing is kept between two calls. Names are given as the host has them,
UTF-8 or not. Source: WASI snapshot preview 1 (witx).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.filetable cimport *
from spear._core.guest cimport *
from spear._core.wasibits cimport *
from spear._core.wasifiles cimport wasi_file_for
from spear._core.wasinumbers cimport *

wasmtime_bind(engineapi.functions())

cdef extern from "hostfiles.h" nogil:
    ctypedef struct host_entry:
        uint64_t inode
        uint64_t next
        uint16_t record_bytes
        uint8_t type
        char name[1]
    int64_t host_entries(int fd, int64_t cookie, char *out, uint64_t size)

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *text, size_t size)

cdef enum:
    ENTRIES_BYTES = 4096           # asked for at once
    DIRENT_BYTES = 24


cdef int32_t _fd_prestat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef uint32_t stat[2]
    cdef file_t *file = wasi_file(guest, values[0].i32)
    if file == NULL or file.grant == NULL:
        return EBADF
    stat[0], stat[1] = 0, file.grant.name_size
    return wasi_give(guest, caller, values[1].i32, stat, 8)


cdef int32_t _fd_prestat_dir_name(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef file_t *file = wasi_file(guest, values[0].i32)
    if file == NULL or file.grant == NULL:
        return EBADF
    if <uint32_t>values[2].i32 < file.grant.name_size:
        return ENAMETOOLONG
    return wasi_give(guest, caller, values[1].i32, file.grant.name, file.grant.name_size)


cdef uint8_t _type_of_entry(uint8_t kind) noexcept nogil:
    """WASI's type of one of Linux's directory entries."""
    if kind == 4:
        return FILE_DIRECTORY
    if kind == 8:
        return FILE_REGULAR
    if kind == 10:
        return 7                   # a symbolic link
    if kind == 2:
        return 2                   # a character device
    if kind == 6:
        return 1                   # a block device
    return 6 if kind == 12 else 0  # a socket; a FIFO, or what the file system does not say


cdef uint64_t _put(uint8_t *out, uint64_t room, const void *data, uint64_t size) noexcept nogil:
    """As much of it as there is room for."""
    if size > room:
        size = room
    memcpy(out, data, size)
    return size


cdef uint64_t _put_entry(uint8_t *out, uint64_t room, const host_entry *entry) noexcept nogil:
    """One entry, cut off where the room ends. What lies above a directory has no number here."""
    cdef uint8_t head[DIRENT_BYTES]
    cdef uint32_t size = <uint32_t>strnlen(entry.name, entry.record_bytes)
    cdef uint64_t used, inode = entry.inode
    if size == 2 and entry.name[0] == c"." and entry.name[1] == c".":
        inode = 0
    memset(head, 0, DIRENT_BYTES)
    memcpy(head, &entry.next, 8)
    memcpy(head + 8, &inode, 8)
    memcpy(head + 16, &size, 4)
    head[20] = _type_of_entry(entry.type)
    used = _put(out, room, head, DIRENT_BYTES)
    return used + _put(out + used, room - used, entry.name, size)


cdef int64_t _list(
    guest_t *guest, int32_t fd, int64_t cookie, uint8_t *out, uint64_t room
) noexcept nogil:
    """Fills the room, or less where the entries end. They come from the kernel in pieces; between
    two it is seen whether the guest may go on."""
    cdef char piece[ENTRIES_BYTES]
    cdef uint64_t used = 0
    cdef int64_t at, got = host_entries(fd, cookie, piece, ENTRIES_BYTES)
    while got > 0:
        at = 0
        while at < got and used < room:
            used += _put_entry(out + used, room - used, <host_entry *>(piece + at))
            at += (<host_entry *>(piece + at)).record_bytes
        if used == room or wasi_doomed(guest):
            break
        if guest_now_ns(guest) >= guest.deadline_ns:
            guest_doom(guest, CAUSE_DEADLINE)
        got = host_entries(fd, -1, piece, ENTRIES_BYTES)
    return used if got >= 0 or used > 0 else got


cdef int32_t _fd_readdir(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error
    cdef uint32_t used
    cdef int64_t got
    cdef uint64_t room = <uint32_t>values[2].i32
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_DIRECTORY, RIGHT_READDIR, &error)
    if file == NULL:
        return error
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>values[1].i32, room)
    if out == NULL or guest_span(guest, caller, <uint32_t>values[4].i32, 4) == NULL:
        return EFAULT
    if values[3].i64 < 0:
        return EINVAL
    error = file_own(file)
    if error < 0:
        return -error
    got = _list(guest, error, values[3].i64, out, room)
    if got < 0:
        return <int32_t>-got
    used = <uint32_t>got
    return wasi_give(guest, caller, values[4].i32, &used, 4)


cdef void wasi_dir_rows(wasi_row_t row) noexcept:
    row(b"fd_prestat_get", b"ii", _fd_prestat_get)
    row(b"fd_prestat_dir_name", b"iii", _fd_prestat_dir_name)
    row(b"fd_readdir", b"iiiIi", _fd_readdir)

"""WASI's calls on descriptors: the three streams and opened files.

Rule: as in wasi.pyx; in addition the number, its kind and its rights are looked at before the host
is asked. A regular file is read and written in place: that may hold the worker for as long as the
disk takes, so one call moves at most DATA_BYTES_MAX. Nothing here waits for a reader or writer,
since only regular files and directories are ever opened. Source: WASI snapshot preview 1 (witx).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.filetable cimport *
from spear._core.guest cimport *
from spear._core.wasibits cimport *
from spear._core.wasinumbers cimport *

wasmtime_bind(engineapi.functions())

cdef extern from "hostfiles.h" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    int32_t host_stat(int fd, uint64_t *out)
    int32_t host_set_times(int fd, uint64_t accessed, uint64_t modified, int which)
    int64_t host_read(int fd, const iovec *parts, int count, int64_t at)
    int64_t host_write(int fd, const iovec *parts, int count, int64_t at)
    int64_t host_seek(int fd, int64_t by, int whence)
    int32_t host_sync(int fd, int data_only)
    int32_t host_set_size(int fd, int64_t size)
    int32_t host_allocate(int fd, int64_t at, int64_t size)
    int32_t host_set_append(int fd, int append)

cdef enum:
    STREAM_BYTES_MAX = 1 << 20     # of one write to stdout or stderr
    DATA_BYTES_MAX = 16 << 20      # read or written by one call
    PARTS_MAX = 64                 # of one call's vectors that are served by it
    ALLOCATE_BYTES_MAX = 256 << 20
    ADVICE_MAX = 5
    FLAG_APPEND = 1
    FLAG_NONBLOCK = 4
    FLAGS = 31
    OWN_OFFSET = -1


# ---- which descriptor

cdef file_t *wasi_file_for(
    guest_t *guest, int32_t fd, int kind, uint64_t right, int32_t *error
) noexcept nogil:
    """Of another kind: what POSIX says there. Writing where only reading was granted is EROFS."""
    cdef file_t *file = wasi_file(guest, fd)
    error[0] = EBADF
    if file == NULL:
        return NULL
    if kind == FILE_DIRECTORY and file.kind != kind:
        error[0] = ENOTDIR
    elif kind == FILE_REGULAR and file.kind == FILE_DIRECTORY:
        error[0] = EISDIR
    elif kind == FILE_REGULAR and file.kind == FILE_STREAM:
        error[0] = ESPIPE
    elif right & (RIGHTS_WRITING | RIGHTS_NAMES | RIGHT_SET_TIMES) and not file.writable:
        error[0] = EROFS
    elif right & ~file.rights:
        error[0] = ENOTCAPABLE
    else:
        return file
    return NULL


cdef file_t *_own_table(guest_t *guest, int32_t fd) noexcept nogil:
    """The descriptor in a table that may be changed; NULL if it is not open or there is no memory.
    """
    if guest.files == NULL and 0 <= fd <= 2:
        guest.files = file_table_new(guest.descriptors_max)
    return file_at(guest.files, fd) if guest.files != NULL else NULL


# ---- data

cdef int32_t _parts_of(
    guest_t *guest, wasmtime_caller_t *caller, uint32_t at, uint32_t count, iovec *parts, int *found
) noexcept nogil:
    """A call's vectors, all of which must lie in memory, as far as the call serves them."""
    cdef uint32_t index, size, left = DATA_BYTES_MAX
    cdef const uint8_t *vector
    cdef uint8_t *data
    found[0] = 0
    if count > VECTORS_MAX:
        return EINVAL
    vector = guest_span(guest, caller, at, <uint64_t>count * 8)
    if vector == NULL:
        return EFAULT
    for index in range(count):
        size = u32_at(vector + 8 * index + 4)
        data = guest_span(guest, caller, u32_at(vector + 8 * index), size)
        if data == NULL:
            return EFAULT
        if size > left:
            size = left
        if size > 0 and found[0] < PARTS_MAX:
            parts[found[0]].iov_base, parts[found[0]].iov_len = data, size
            found[0] += 1
            left -= size
    return ESUCCESS


cdef int64_t _write_stream(
    guest_t *guest, int stream, const iovec *parts, int count
) noexcept nogil:
    """At most STREAM_BYTES_MAX, as WASI allows; a guest that passes its output limit is doomed."""
    cdef size_t size, total = 0
    cdef int index
    for index in range(count):
        size = parts[index].iov_len
        if size > STREAM_BYTES_MAX - total:
            size = STREAM_BYTES_MAX - total
        total += size
        if not guest_write(guest, stream, <const char *>parts[index].iov_base, size):
            guest_doom(guest, CAUSE_OUTPUT)
            return -EINVAL
    return total


cdef int64_t _read_stream(guest_t *guest, const iovec *parts, int count) noexcept nogil:
    cdef size_t size, total = 0
    cdef int index
    for index in range(count):
        size = parts[index].iov_len
        if size > guest.stdin_size - guest.stdin_at:
            size = guest.stdin_size - guest.stdin_at
        memcpy(parts[index].iov_base, guest.stdin_data + guest.stdin_at, size)
        guest.stdin_at += size
        total += size
    return total


cdef int32_t _move(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, bint reading,
    int64_t at, int32_t out_at
) noexcept nogil:
    """Reads or writes; nothing where a vector or the result lies outside memory."""
    cdef iovec parts[PARTS_MAX]
    cdef int count
    cdef int64_t done
    cdef uint32_t total
    cdef int32_t error
    cdef file_t *file = _data_file(guest, values[0].i32, reading, at != OWN_OFFSET, &error)
    if file == NULL:
        return error
    error = _parts_of(
        guest, caller, <uint32_t>values[1].i32, <uint32_t>values[2].i32, parts, &count)
    if error != ESUCCESS:
        return error
    if guest_span(guest, caller, <uint32_t>out_at, 4) == NULL:
        return EFAULT
    if file.kind == FILE_STREAM:
        done = _read_stream(guest, parts, count) if reading else _write_stream(
            guest, file.stream, parts, count)
    elif reading:
        done = host_read(file.fd, parts, count, at)
    else:
        done = host_write(file.fd, parts, count, at)
    if done < 0:
        return <int32_t>-done
    if file.kind == FILE_REGULAR:
        guest_charge(guest, <uint64_t>done)    # a stream's bytes are counted where they go
    total = <uint32_t>done
    return wasi_give(guest, caller, out_at, &total, 4)


cdef file_t *_data_file(
    guest_t *guest, int32_t fd, bint reading, bint seeking, int32_t *error
) noexcept nogil:
    """A stream has no offset, and a way in which it goes: the other is EBADF."""
    cdef uint64_t right = RIGHT_READ if reading else RIGHT_WRITE
    cdef file_t *file = wasi_file(guest, fd)
    if file != NULL and file.kind == FILE_STREAM and not seeking:
        if (file.stream == 0) == reading and file.rights & right:
            return file
        error[0] = ENOTCAPABLE if (file.stream == 0) == reading else EBADF
        return NULL
    if seeking:
        right |= RIGHT_SEEK
    return wasi_file_for(guest, fd, FILE_REGULAR, right, error)


cdef int32_t _fd_read(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _move(guest, caller, values, True, OWN_OFFSET, values[3].i32)


cdef int32_t _fd_write(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _move(guest, caller, values, False, OWN_OFFSET, values[3].i32)


cdef int32_t _fd_pread(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if values[3].i64 < 0:
        return EINVAL
    return _move(guest, caller, values, True, values[3].i64, values[4].i32)


cdef int32_t _fd_pwrite(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if values[3].i64 < 0:
        return EINVAL
    return _move(guest, caller, values, False, values[3].i64, values[4].i32)


# ---- offset, size, what is known of a file

cdef int32_t _sought(
    guest_t *guest, wasmtime_caller_t *caller, file_t *file, int64_t by, int whence, int32_t out_at
) noexcept nogil:
    cdef int64_t at
    if guest_span(guest, caller, <uint32_t>out_at, 8) == NULL:
        return EFAULT
    at = host_seek(file.fd, by, whence)
    return <int32_t>-at if at < 0 else wasi_give(guest, caller, out_at, &at, 8)


cdef int32_t _fd_seek(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_REGULAR, RIGHT_SEEK, &error)
    if file == NULL:
        return error
    return _sought(guest, caller, file, values[1].i64, values[2].i32, values[3].i32)


cdef int32_t _fd_tell(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_REGULAR, RIGHT_TELL, &error)
    return error if file == NULL else _sought(guest, caller, file, 0, 1, values[1].i32)


cdef int32_t _fd_advise(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """Checked, not followed: the host's cache is nothing that a guest should steer."""
    cdef int32_t error
    if wasi_file_for(guest, values[0].i32, FILE_REGULAR, RIGHT_ADVISE, &error) == NULL:
        return error
    return ESUCCESS if 0 <= values[3].i32 <= ADVICE_MAX else EINVAL


cdef int32_t _fd_allocate(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """The kernel works it off in one go, so only so much is asked for at once."""
    cdef int32_t error
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_REGULAR, RIGHT_ALLOCATE, &error)
    if file == NULL:
        return EINVAL if error == ESPIPE else error
    if values[1].i64 < 0 or values[2].i64 <= 0:
        return EINVAL
    if values[2].i64 > ALLOCATE_BYTES_MAX:
        return EFBIG
    return -host_allocate(file.fd, values[1].i64, values[2].i64)


cdef int32_t _fd_set_size(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_REGULAR, RIGHT_SET_SIZE, &error)
    if file == NULL:
        return EINVAL if error == ESPIPE else error
    return EINVAL if values[1].i64 < 0 else -host_set_size(file.fd, values[1].i64)


cdef int32_t _fd_set_times(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_FREE, RIGHT_SET_TIMES, &error)
    if file == NULL or file.kind == FILE_STREAM:
        return EINVAL if wasi_stream(guest, values[0].i32) else error
    return -host_set_times(
        file.fd, <uint64_t>values[1].i64, <uint64_t>values[2].i64, values[3].i32)


cdef int32_t _fd_filestat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error
    cdef uint64_t stat[8]
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_FREE, RIGHT_FILESTAT, &error)
    if file == NULL:
        return error
    memset(stat, 0, 64)
    stat[2], stat[3] = FILE_STREAM, 1      # its type, and how many names it has
    error = ESUCCESS if file.kind == FILE_STREAM else host_stat(file.fd, stat)
    return -error if error != ESUCCESS else wasi_give(guest, caller, values[1].i32, stat, 64)


cdef int32_t _sync(guest_t *guest, int32_t fd, uint64_t right, bint data_only) noexcept nogil:
    """A stream has nothing to sync."""
    cdef int32_t error
    if wasi_stream(guest, fd):
        return ESUCCESS
    cdef file_t *file = wasi_file_for(guest, fd, FILE_FREE, right, &error)
    if file == NULL:
        return error
    error = file_own(file)
    return -error if error < 0 else -host_sync(error, data_only)


cdef int32_t _fd_sync(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _sync(guest, values[0].i32, RIGHT_SYNC, False)


cdef int32_t _fd_datasync(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    return _sync(guest, values[0].i32, RIGHT_DATASYNC, True)


# ---- flags and rights

cdef int32_t _fd_fdstat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef uint8_t stat[24]
    cdef file_t *file = wasi_file(guest, values[0].i32)
    if file == NULL:
        return EBADF
    memset(stat, 0, 24)
    stat[0] = file.kind
    memcpy(stat + 2, &file.flags, 2)
    memcpy(stat + 8, &file.rights, 8)
    memcpy(stat + 16, &file.inheriting, 8)
    return wasi_give(guest, caller, values[1].i32, stat, 24)


cdef int32_t _fd_set_flags(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """Append can be changed, and non-blocking, which changes nothing; the synchronous ones cannot.
    """
    cdef int32_t error, flags = values[1].i32
    cdef file_t *file = wasi_file_for(guest, values[0].i32, FILE_FREE, RIGHT_SET_FLAGS, &error)
    if file == NULL:
        return error
    if flags & ~FLAGS:
        return EINVAL
    if (flags ^ file.flags) & ~(FLAG_APPEND | FLAG_NONBLOCK):
        return ENOTSUP
    file = _own_table(guest, values[0].i32)
    if file == NULL:
        return ENOMEM
    if file.kind == FILE_REGULAR:
        error = host_set_append(file.fd, flags & FLAG_APPEND)
        if error < 0:
            return -error
    file.flags = <uint16_t>flags
    return ESUCCESS


cdef int32_t _fd_set_rights(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """Rights can be given up, not taken."""
    cdef uint64_t rights = <uint64_t>values[1].i64, inheriting = <uint64_t>values[2].i64
    cdef file_t *file = wasi_file(guest, values[0].i32)
    if file == NULL:
        return EBADF
    if rights & ~file.rights or inheriting & ~file.inheriting:
        return ENOTCAPABLE
    file = _own_table(guest, values[0].i32)
    if file == NULL:
        return ENOMEM
    file.rights, file.inheriting = rights, inheriting
    return ESUCCESS


# ---- the numbers themselves

cdef int32_t _fd_close(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if wasi_file(guest, values[0].i32) == NULL:
        return EBADF
    cdef file_t *file = _own_table(guest, values[0].i32)
    if file == NULL:
        return ENOMEM
    file_drop(guest.files, file)
    return ESUCCESS


cdef int32_t _fd_renumber(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    if wasi_file(guest, values[0].i32) == NULL or wasi_file(guest, values[1].i32) == NULL:
        return EBADF
    if _own_table(guest, values[0].i32) == NULL:
        return ENOMEM
    file_move(guest.files, wasi_file(guest, values[0].i32), wasi_file(guest, values[1].i32))
    return ESUCCESS


# ---- for poll_oneoff

cdef int32_t wasi_file_ready(
    guest_t *guest, int32_t fd, bint reading, uint64_t *bytes
) noexcept nogil:
    """Streams and files are always ready. At the end of a file there is nothing, which is read at
    once too."""
    cdef int32_t error
    cdef uint64_t stat[8]
    cdef int64_t at
    cdef file_t *file = wasi_file(guest, fd)
    bytes[0] = stat[4] = 0
    if file == NULL or (file.kind == FILE_STREAM and (file.stream == 0) != reading):
        return EBADF
    if wasi_file_for(guest, fd, FILE_FREE, RIGHT_POLL, &error) == NULL:
        return error
    if file.kind == FILE_STREAM and reading:
        bytes[0] = guest.stdin_size - guest.stdin_at
    elif file.kind == FILE_REGULAR and reading and host_stat(file.fd, stat) == 0:
        at = host_seek(file.fd, 0, 1)
        if 0 <= at < <int64_t>stat[4]:
            bytes[0] = stat[4] - at
    return ESUCCESS


cdef void wasi_file_rows(wasi_row_t row) noexcept:
    row(b"fd_advise", b"iIIi", _fd_advise)
    row(b"fd_allocate", b"iII", _fd_allocate)
    row(b"fd_close", b"i", _fd_close)
    row(b"fd_datasync", b"i", _fd_datasync)
    row(b"fd_fdstat_get", b"ii", _fd_fdstat_get)
    row(b"fd_fdstat_set_flags", b"ii", _fd_set_flags)
    row(b"fd_fdstat_set_rights", b"iII", _fd_set_rights)
    row(b"fd_filestat_get", b"ii", _fd_filestat_get)
    row(b"fd_filestat_set_size", b"iI", _fd_set_size)
    row(b"fd_filestat_set_times", b"iIIi", _fd_set_times)
    row(b"fd_pread", b"iiiIi", _fd_pread)
    row(b"fd_pwrite", b"iiiIi", _fd_pwrite)
    row(b"fd_read", b"iiii", _fd_read)
    row(b"fd_renumber", b"ii", _fd_renumber)
    row(b"fd_seek", b"iIii", _fd_seek)
    row(b"fd_sync", b"i", _fd_sync)
    row(b"fd_tell", b"ii", _fd_tell)
    row(b"fd_write", b"iiii", _fd_write)

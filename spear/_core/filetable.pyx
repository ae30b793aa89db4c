"""A guest's WASI descriptors: a number for each stream, granted directory and opened file.

Rule: whoever runs the guest owns its table, and the table owns what it lists: when it goes, all is
closed. Numbers are given from 3 on, the lowest free one first. All guests together hold at most
half of the descriptors that the process may open, so that they cannot starve the node.
Source: WASI snapshot preview 1; the kernel's openat2.
"""

import os

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from spear._core.sync cimport add64, load64, store64
from spear._core.wasinumbers cimport *

from spear.errors import InvalidArgument

cdef extern from "hostfiles.h" nogil:
    int O_PATH, O_RDONLY, O_DIRECTORY
    int32_t host_open(int dir, const char *path, int flags, int mode)
    int32_t host_open_granted(const char *path)
    int64_t host_descriptors_max()
    int close(int fd)

cdef enum:
    ROOM_MIN = 16
    FIRST = 3                  # behind the streams
    NAME_BYTES_MAX = 4095

cdef int64_t _held = 0         # descriptors in all tables
cdef int64_t _held_max = 0     # set when a directory is granted: no file is open before
cdef file_t[FIRST] _streams


cdef void _fill_streams(file_t *files) noexcept nogil:
    cdef int32_t number
    memset(files, 0, FIRST * sizeof(file_t))
    for number in range(FIRST):
        files[number].kind, files[number].stream, files[number].fd = FILE_STREAM, number, -1
        files[number].writable = True
        files[number].rights = RIGHTS_STREAM | (RIGHT_READ if number == 0 else RIGHT_WRITE)


_fill_streams(_streams)


# ---- grants

cdef grant_t *grant_retain(grant_t *grant) noexcept nogil:
    add64(&grant.refs, 1)
    return grant


cdef void grant_release(grant_t *grant) noexcept nogil:
    if grant != NULL and add64(&grant.refs, -1) == 0:
        close(grant.fd)
        free(grant)


# ---- descriptors of the host

cdef int32_t file_open(int32_t dir, const char *path, int flags, int mode) noexcept nogil:
    if add64(&_held, 1) > load64(&_held_max):
        add64(&_held, -1)
        return -ENFILE
    cdef int32_t fd = host_open(dir, path, flags, mode)
    if fd < 0:
        add64(&_held, -1)
    return fd


cdef void file_close(int32_t fd) noexcept nogil:
    close(fd)
    add64(&_held, -1)


cdef int32_t file_own(file_t *file) noexcept nogil:
    cdef int32_t fd
    if file.grant == NULL or file.fd != file.grant.fd:
        return file.fd
    fd = file_open(file.fd, ".", O_RDONLY | O_DIRECTORY, 0)
    if fd >= 0:
        file.fd = fd
    return fd


cdef void _let_go(file_t *file) noexcept nogil:
    """Of an open one; a free place has no descriptor, although its field says 0."""
    if file.fd >= 0 and (file.grant == NULL or file.fd != file.grant.fd):
        file_close(file.fd)
    grant_release(file.grant)
    memset(file, 0, sizeof(file_t))


# ---- the table

cdef file_table_t *file_table_new(int32_t room_max) noexcept nogil:
    cdef file_table_t *table = <file_table_t *>calloc(1, sizeof(file_table_t))
    if table == NULL:
        return NULL
    table.files = <file_t *>calloc(ROOM_MIN, sizeof(file_t))
    if table.files == NULL:
        free(table)
        return NULL
    table.room, table.room_max, table.free_from = ROOM_MIN, room_max, FIRST
    _fill_streams(table.files)
    return table


cdef void file_table_free(file_table_t *table) noexcept nogil:
    cdef int32_t number
    if table == NULL:
        return
    for number in range(table.room):
        if table.files[number].kind != FILE_FREE:
            _let_go(&table.files[number])
    free(table.files)
    free(table)


cdef file_t *file_at(file_table_t *table, int32_t number) noexcept nogil:
    if table == NULL:
        return &_streams[number] if 0 <= number < FIRST else NULL
    if number < 0 or number >= table.room or table.files[number].kind == FILE_FREE:
        return NULL
    return &table.files[number]


cdef bint _grow(file_table_t *table) noexcept nogil:
    cdef int32_t room = table.room * 2
    cdef file_t *files = <file_t *>realloc(table.files, room * sizeof(file_t))
    if files == NULL:
        return False
    memset(files + table.room, 0, table.room * sizeof(file_t))
    table.files, table.room = files, room
    return True


cdef int32_t file_add(file_table_t *table, file_t *file) noexcept nogil:
    cdef int32_t number = table.free_from
    while number < table.room and table.files[number].kind != FILE_FREE:
        number += 1
    if number >= table.room_max:
        _let_go(file)
        return -EMFILE
    if number == table.room and not _grow(table):
        _let_go(file)
        return -ENOMEM
    table.files[number] = file[0]
    table.free_from = number + 1
    return number


cdef int32_t file_add_grant(file_table_t *table, grant_t *grant) noexcept nogil:
    cdef file_t file
    memset(&file, 0, sizeof(file_t))
    file.kind, file.fd, file.writable = FILE_DIRECTORY, grant.fd, grant.writable
    file.grant = grant_retain(grant)
    file.rights, file.inheriting = RIGHTS_DIRECTORY, RIGHTS_DIRECTORY | RIGHTS_REGULAR
    return file_add(table, &file)


cdef void _now_free(file_table_t *table, const file_t *file) noexcept nogil:
    cdef int32_t number = <int32_t>(file - table.files)
    if FIRST <= number < table.free_from:
        table.free_from = number


cdef void file_drop(file_table_t *table, file_t *file) noexcept nogil:
    _let_go(file)
    _now_free(table, file)


cdef void file_move(file_table_t *table, file_t *source, file_t *target) noexcept nogil:
    if source == target:
        return
    _let_go(target)
    target[0] = source[0]
    memset(source, 0, sizeof(file_t))      # moved, not closed: the host's descriptor goes on
    _now_free(table, source)


# ---- the Python face

cdef class Directory:
    """A directory of the host that guests may use; see filetable.pyi."""

    def __init__(self, host, guest="", *, bint writable=False):
        if self.grant != NULL:
            raise TypeError("a Directory is made once")
        self.host = os.fsdecode(host)
        self.guest = guest or self.host
        cdef bytes path = _checked("the path of a granted directory", self.host)
        cdef bytes name = _checked("the guest's name of a granted directory", self.guest)
        cdef int32_t fd = host_open_granted(path)
        if fd < 0:
            raise InvalidArgument(_no_directory(self.host))
        self.grant = _grant_new(fd, name, len(name), writable)
        if self.grant == NULL:
            close(fd)
            raise MemoryError("no memory for a directory's record")
        why = _refusal_of(fd)
        if why:
            raise InvalidArgument(f"cannot grant {self.host!r}: {why}")
        store64(&_held_max, host_descriptors_max() // 2)

    def __dealloc__(self):
        grant_release(self.grant)

    @property
    def writable(self):
        return bool(self.grant.writable)

    def __repr__(self):
        mode = "rw" if self.grant.writable else "ro"
        return f"<Directory {self.host}:{self.guest}:{mode}>"


cdef grant_t *_grant_new(int32_t fd, const char *name, size_t size, bint writable) noexcept:
    cdef grant_t *grant = <grant_t *>malloc(sizeof(grant_t) + size)
    if grant != NULL:
        grant.refs, grant.fd, grant.writable, grant.name_size = 1, fd, writable, <uint32_t>size
        memcpy(grant.name, name, size + 1)
    return grant


cdef bytes _checked(str what, str text):
    encoded = text.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) <= NAME_BYTES_MAX or b"\0" in encoded:
        raise InvalidArgument(
            f"{what}: expected 1 to {NAME_BYTES_MAX} bytes without a NUL, found {text[:80]!r}")
    return encoded


cdef str _no_directory(str path):
    """Why it could not be opened as one, once more in words."""
    try:
        os.listdir(path) if os.path.isdir(path) else os.stat(path)
    except OSError as error:
        return f"cannot grant the directory {path!r}: {error.strerror}"
    return f"cannot grant {path!r}: it is not a directory"


cdef str _refusal_of(int32_t fd):
    """Why nothing can be opened safely beneath a directory; "" if it can."""
    cdef int32_t found = host_open(fd, ".", O_PATH | O_DIRECTORY, 0)
    if found >= 0:
        close(found)
        return ""
    if found == -EACCES:
        return "the node may not search it"
    return "the kernel offers no openat2 (Linux 5.8 or later, not refused by a container's filter)"


def refusal():
    """Why this machine can grant no directory; "" if it can."""
    try:
        Directory("/")
    except InvalidArgument as error:
        return str(error)
    return ""


cdef file_table_t *file_table_of(dirs, int32_t room_max) except? NULL:
    cdef file_table_t *table
    cdef Directory directory
    cdef int32_t number
    if not dirs:
        return NULL
    granted = _named(dirs, room_max)
    table = file_table_new(room_max)
    if table == NULL:
        raise MemoryError("no memory for a guest's descriptors")
    for directory in granted:
        number = file_add_grant(table, directory.grant)
        if number < 0:
            file_table_free(table)
            raise MemoryError("no memory for a guest's descriptors")
    return table


cdef list _named(dirs, int32_t room_max):
    """The directories, once it is sure that the guest can tell them apart."""
    found = {}
    for item in dirs:
        if not isinstance(item, Directory):
            raise InvalidArgument(f"dirs is a sequence of Directory, found {type(item).__name__}")
        name = os.path.normpath("/" + item.guest.lstrip("/"))
        other = found.setdefault(name, item)
        if other is not item:
            raise InvalidArgument(
                f"two directories are granted as {item.guest!r}: {other.host!r} and {item.host!r}; "
                "give each a name of its own")
    if len(found) > room_max - FIRST:
        raise InvalidArgument(
            f"{len(found)} directories are granted, a guest has {room_max} descriptors, three of "
            "them for its streams")
    return list(found.values())

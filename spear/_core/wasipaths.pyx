"""WASI's calls on paths: opening, and all that is done to names beneath an opened directory.

Rule: a path is copied out of the guest's memory before it is looked at, and resolved by the kernel
beneath the directory (hostfiles.h); none of this file's own reading of a path decides what may be
reached. A call that acts on a name opens the parent and acts on the last component there. What
leads out of the directory is EPERM, also an absolute path. Only regular files and directories are
opened: a FIFO or a device is looked at first, by a descriptor that does not reach it, and refused.
Source: WASI snapshot preview 1 (witx).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset, strlen, strrchr

from spear._core cimport engineapi
from spear._core.engineapi cimport *
from spear._core.filetable cimport *
from spear._core.guest cimport *
from spear._core.wasibits cimport *
from spear._core.wasifiles cimport wasi_file_for
from spear._core.wasinumbers cimport *

wasmtime_bind(engineapi.functions())

cdef extern from "hostfiles.h" nogil:
    int O_PATH, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_EXCL
    int O_TRUNC, O_DSYNC, O_SYNC, O_NONBLOCK, O_NOCTTY
    int close(int fd)
    int32_t host_open(int dir, const char *path, int flags, int mode)
    int32_t host_stat(int fd, uint64_t *out)
    int32_t host_type(int fd, const char *name)
    int32_t host_set_times(int fd, uint64_t accessed, uint64_t modified, int which)
    int32_t host_make_directory(int dir, const char *name)
    int32_t host_remove(int dir, const char *name, int directory)
    int32_t host_rename(int source, const char *old, int target, const char *name)
    int32_t host_link(int source, const char *old, int target, const char *name)
    int32_t host_symlink(const char *target, int dir, const char *name)
    int64_t host_read_link(int fd, char *out, uint64_t size)

cdef enum:
    PATH_BYTES_MAX = 4095      # without its NUL
    TYPE_LINK = 7
    FOLLOW = 1
    OPEN_CREATE = 1
    OPEN_DIRECTORY = 2
    OPEN_EXCLUSIVE = 4
    OPEN_TRUNCATE = 8
    OPEN_FLAGS = 15
    FLAG_APPEND = 1
    FLAG_DSYNC = 2
    FLAG_RSYNC = 8
    FLAG_SYNC = 16
    FLAGS = 31

cdef struct place_t:           # a name in an opened directory
    int32_t parent             # to be closed; -1: none
    const char *name           # in `text`
    bint slashed               # there was a slash behind it: only a directory may be meant
    char text[PATH_BYTES_MAX + 1]


# ---- paths

cdef int32_t _tail_bytes(const uint8_t *text, uint32_t left) noexcept nogil:
    """How many bytes follow a character's first one; -1 if it is no UTF-8."""
    cdef int32_t count, index
    cdef uint32_t value = text[0]
    if value < 0x80:
        return 0
    count = 1 if value >> 5 == 6 else 2 if value >> 4 == 14 else 3 if value >> 3 == 30 else -1
    if count < 0 or <uint32_t>count >= left:
        return -1
    value &= 0x3F >> count
    for index in range(1, count + 1):
        if text[index] >> 6 != 2:
            return -1
        value = value << 6 | (text[index] & 0x3F)
    if value < (0x80 if count == 1 else 0x800 if count == 2 else 0x10000):
        return -1                  # longer than need be
    return -1 if value > 0x10FFFF or value >> 11 == 27 else count


cdef int32_t _path_of(
    guest_t *guest, wasmtime_caller_t *caller, int32_t at, int32_t size, char *out
) noexcept nogil:
    """A path of the guest's, copied and ended by a NUL. It is UTF-8, as WASI wants it."""
    cdef uint32_t index = 0, count = <uint32_t>size
    cdef int32_t more
    cdef const uint8_t *text = guest_span(guest, caller, <uint32_t>at, count)
    if text == NULL:
        return EFAULT
    if count == 0:
        return ENOENT
    if count > PATH_BYTES_MAX:
        return ENAMETOOLONG
    memcpy(out, text, count)
    out[count] = 0
    if memchr(out, 0, count) != NULL:
        return EINVAL
    while index < count:
        more = _tail_bytes(<const uint8_t *>out + index, count - index)
        if more < 0:
            return EILSEQ
        index += more + 1
    return ESUCCESS


cdef void _leave(place_t *place) noexcept nogil:
    if place.parent >= 0:
        close(place.parent)
        place.parent = -1


cdef int32_t _find_place(
    guest_t *guest, wasmtime_caller_t *caller, file_t *dir, int32_t at, int32_t size,
    int32_t if_dots, place_t *place
) noexcept nogil:
    """Opens the parent of a path's last component. `if_dots`: the answer where that is "." or
    "..", since those are no names to act on."""
    cdef const char *parent = "."
    cdef char *slash
    cdef size_t end
    place.parent, place.slashed = -1, False
    cdef int32_t error = _path_of(guest, caller, at, size, place.text)
    if error != ESUCCESS:
        return error
    if place.text[0] == c"/":
        return EPERM
    end = strlen(place.text)
    while place.text[end - 1] == c"/":     # it does not begin with one
        end, place.slashed = end - 1, True
    place.text[end] = 0
    slash = strrchr(place.text, c"/")
    place.name = place.text
    if slash != NULL:
        slash[0] = 0
        parent, place.name = place.text, slash + 1
    place.parent = host_open(dir.fd, parent, O_PATH | O_DIRECTORY, 0)
    if place.parent < 0:
        return -place.parent
    if place.name[0] == c"." and (
            place.name[1] == 0 or (place.name[1] == c"." and place.name[2] == 0)):
        _leave(place)
        return if_dots
    return ESUCCESS


cdef int32_t _place_for(
    guest_t *guest, wasmtime_caller_t *caller, int32_t fd, uint64_t right, int32_t at,
    int32_t size, int32_t if_dots, place_t *place
) noexcept nogil:
    cdef int32_t error
    place.parent = -1
    cdef file_t *dir = wasi_file_for(guest, fd, FILE_DIRECTORY, right, &error)
    return error if dir == NULL else _find_place(
        guest, caller, dir, at, size, if_dots, place)


cdef int32_t _not_slashed(const place_t *place, int32_t otherwise) noexcept nogil:
    """What a slash behind a name means for a call that is not about directories."""
    if not place.slashed:
        return ESUCCESS
    cdef int32_t kind = host_type(place.parent, place.name)
    return -kind if kind < 0 else EISDIR if kind == FILE_DIRECTORY else otherwise


# ---- opening

cdef int32_t _open_flags(
    int32_t open_flags, uint64_t rights, int32_t fd_flags, bint follow
) noexcept nogil:
    cdef bint reads = rights & (RIGHT_READ | RIGHT_READDIR) != 0
    cdef bint writes = rights & RIGHTS_WRITING != 0 or open_flags & OPEN_TRUNCATE
    cdef int flags = O_NONBLOCK | O_NOCTTY
    if not follow:
        flags |= O_NOFOLLOW
    if open_flags & OPEN_DIRECTORY:
        return flags | O_DIRECTORY | O_RDONLY
    if open_flags & OPEN_CREATE:
        flags |= O_CREAT
    if open_flags & OPEN_EXCLUSIVE:
        flags |= O_EXCL
    if open_flags & OPEN_TRUNCATE:
        flags |= O_TRUNC
    if fd_flags & FLAG_APPEND:
        flags |= O_APPEND
    if fd_flags & FLAG_DSYNC:
        flags |= O_DSYNC
    if fd_flags & (FLAG_RSYNC | FLAG_SYNC):
        flags |= O_SYNC
    if writes:
        return flags | (O_RDWR if reads else O_WRONLY)
    return flags | O_RDONLY


cdef int32_t _may_open(
    file_t *dir, const char *path, int32_t *open_flags, uint64_t rights, bint follow
) noexcept nogil:
    """Looks at what is there without reaching it: only files and directories are opened. Where
    only reading was granted nothing is made, and nothing opened for writing."""
    cdef int32_t kind, asked = open_flags[0]
    cdef bint writes = rights & RIGHTS_WRITING != 0 and not asked & OPEN_DIRECTORY
    cdef int32_t fd = host_open(dir.fd, path, O_PATH if follow else O_PATH | O_NOFOLLOW, 0)
    if fd == -ENOENT and asked & OPEN_CREATE:
        return ESUCCESS if dir.writable else EROFS
    if fd < 0:
        return -fd
    kind = host_type(fd, "")
    close(fd)
    if asked & OPEN_CREATE and asked & OPEN_EXCLUSIVE:
        return EEXIST
    if kind == TYPE_LINK:
        return ELOOP
    if kind != FILE_REGULAR and kind != FILE_DIRECTORY:
        return EACCES
    if not dir.writable and (writes or asked & OPEN_TRUNCATE):
        return EROFS
    if kind == FILE_DIRECTORY and (writes or asked & OPEN_TRUNCATE):
        return EISDIR
    if not dir.writable:           # it is there, so there is nothing to make
        open_flags[0] = asked & ~OPEN_CREATE
    return ESUCCESS


cdef int32_t _check_open(
    int32_t lookup, int32_t open_flags, int32_t fd_flags, uint64_t rights, uint64_t inheriting,
    uint64_t *needed
) noexcept nogil:
    """The rights that a directory needs for this; what it may not pass on of reading and writing is
    refused, of all else left out, since toolchains ask for more than they use."""
    if lookup & ~FOLLOW or open_flags & ~OPEN_FLAGS or fd_flags & ~FLAGS:
        return EINVAL
    if open_flags & OPEN_DIRECTORY and open_flags & (OPEN_CREATE | OPEN_TRUNCATE):
        return EINVAL
    needed[0] = RIGHT_OPEN
    if open_flags & OPEN_CREATE:
        needed[0] |= RIGHT_CREATE_FILE
    if open_flags & OPEN_TRUNCATE:
        needed[0] |= RIGHT_PATH_SET_SIZE
    return ENOTCAPABLE if rights & (RIGHT_READ | RIGHT_WRITE) & ~inheriting else ESUCCESS


cdef int32_t _opened(
    file_t *dir, const char *path, int32_t lookup, int32_t open_flags, uint64_t rights,
    int32_t fd_flags, file_t *file
) noexcept nogil:
    """Opens and fills `file`, whose kind is looked at once more: the name may mean another thing
    by now."""
    cdef int32_t kind, error = _may_open(dir, path, &open_flags, rights, lookup & FOLLOW)
    if error != ESUCCESS:
        return error
    memset(file, 0, sizeof(file_t))
    file.fd = file_open(
        dir.fd, path, _open_flags(open_flags, rights, fd_flags, lookup & FOLLOW),
        0o666 if open_flags & OPEN_CREATE else 0)
    if file.fd < 0:
        return -file.fd
    kind = host_type(file.fd, "")
    if kind != FILE_REGULAR and kind != FILE_DIRECTORY:
        file_close(file.fd)
        return EACCES
    file.kind, file.writable, file.flags = <uint8_t>kind, dir.writable, <uint16_t>fd_flags
    file.rights = rights & dir.inheriting & (
        RIGHTS_REGULAR if kind == FILE_REGULAR else RIGHTS_DIRECTORY)
    file.inheriting = dir.inheriting       # whatever was asked: Zig asks for less than it then uses
    return ESUCCESS


cdef int32_t _path_open(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef char path[PATH_BYTES_MAX + 1]
    cdef uint64_t needed, rights = <uint64_t>values[5].i64
    cdef int32_t error
    cdef file_t file
    cdef file_t *dir = wasi_file_for(guest, values[0].i32, FILE_DIRECTORY, 0, &error)
    if dir == NULL:
        return error
    error = _path_of(guest, caller, values[2].i32, values[3].i32, path)
    if error != ESUCCESS:
        return error
    if guest_span(guest, caller, <uint32_t>values[8].i32, 4) == NULL:
        return EFAULT
    error = _check_open(
        values[1].i32, values[4].i32, values[7].i32, rights, dir.inheriting, &needed)
    if error == ESUCCESS and needed & ~dir.rights:
        error = ENOTCAPABLE
    if error == ESUCCESS:
        error = _opened(
            dir, path, values[1].i32, values[4].i32, rights, values[7].i32, &file)
    if error != ESUCCESS:
        return error
    error = file_add(guest.files, &file)
    return -error if error < 0 else wasi_give(guest, caller, values[8].i32, &error, 4)


# ---- what is there

cdef int32_t _found(
    guest_t *guest, wasmtime_caller_t *caller, int32_t dir_fd, uint64_t right, int32_t lookup,
    int32_t at, int32_t size
) noexcept nogil:
    """A descriptor of what a path names, to be looked at and closed; or a negated error."""
    cdef char path[PATH_BYTES_MAX + 1]
    cdef int32_t error
    cdef file_t *dir = wasi_file_for(guest, dir_fd, FILE_DIRECTORY, right, &error)
    if dir == NULL:
        return -error
    error = _path_of(guest, caller, at, size, path)
    if error == ESUCCESS and lookup & ~FOLLOW:
        error = EINVAL
    if error != ESUCCESS:
        return -error
    return host_open(dir.fd, path, O_PATH if lookup & FOLLOW else O_PATH | O_NOFOLLOW, 0)


cdef int32_t _path_filestat_get(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef uint64_t stat[8]
    cdef int32_t error, fd = _found(
        guest, caller, values[0].i32, RIGHT_PATH_FILESTAT, values[1].i32, values[2].i32,
        values[3].i32)
    if fd < 0:
        return -fd
    error = host_stat(fd, stat)
    close(fd)
    return -error if error < 0 else wasi_give(guest, caller, values[4].i32, stat, 64)


cdef int32_t _path_set_times(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef int32_t error, fd = _found(
        guest, caller, values[0].i32, RIGHT_PATH_SET_TIMES, values[1].i32, values[2].i32,
        values[3].i32)
    if fd < 0:
        return -fd
    error = host_set_times(
        fd, <uint64_t>values[4].i64, <uint64_t>values[5].i64, values[6].i32)
    close(fd)
    return -error


cdef int32_t _path_readlink(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """The target's text, cut off where the buffer ends."""
    cdef uint32_t used, room = <uint32_t>values[4].i32
    cdef uint8_t *out = guest_span(guest, caller, <uint32_t>values[3].i32, room)
    cdef int64_t got
    cdef char target[PATH_BYTES_MAX + 1]
    cdef int32_t fd = _found(
        guest, caller, values[0].i32, RIGHT_READLINK, 0, values[1].i32, values[2].i32)
    if fd < 0:
        return -fd
    got = host_read_link(fd, target, PATH_BYTES_MAX) if host_type(fd, "") == TYPE_LINK else -EINVAL
    close(fd)
    if got < 0:
        return <int32_t>-got
    if out == NULL:
        return EFAULT
    used = <uint32_t>got if got < room else room
    memcpy(out, target, used)
    return wasi_give(guest, caller, values[5].i32, &used, 4)


# ---- names

cdef int32_t _path_create_directory(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef place_t place
    cdef int32_t error = _place_for(guest, caller, values[0].i32, RIGHT_CREATE_DIRECTORY,
                                    values[1].i32, values[2].i32, EEXIST, &place)
    if error == ESUCCESS:
        error = -host_make_directory(place.parent, place.name)
    _leave(&place)
    return error


cdef int32_t _path_remove_directory(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef place_t place
    cdef int32_t error = _place_for(guest, caller, values[0].i32, RIGHT_REMOVE_DIRECTORY,
                                    values[1].i32, values[2].i32, EINVAL, &place)
    if error == ESUCCESS:
        error = -host_remove(place.parent, place.name, True)
    _leave(&place)
    return error


cdef int32_t _path_unlink_file(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef place_t place
    cdef int32_t error = _place_for(guest, caller, values[0].i32, RIGHT_UNLINK,
                                    values[1].i32, values[2].i32, EISDIR, &place)
    if error == ESUCCESS:
        error = _not_slashed(&place, ENOTDIR)
    if error == ESUCCESS:
        error = -host_remove(place.parent, place.name, False)
    _leave(&place)
    return error


cdef int32_t _path_symlink(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """An absolute target is refused, since beneath a directory it leads nowhere. Where a relative
    one leads is the kernel's question whenever it is followed."""
    cdef place_t place
    cdef char target[PATH_BYTES_MAX + 1]
    place.parent = -1
    cdef int32_t error = _path_of(guest, caller, values[0].i32, values[1].i32, target)
    if error == ESUCCESS:
        error = EPERM if target[0] == c"/" else _place_for(
            guest, caller, values[2].i32, RIGHT_SYMLINK, values[3].i32, values[4].i32, EEXIST,
            &place)
    if error == ESUCCESS and _not_slashed(&place, EEXIST) != ESUCCESS:
        error = ENOENT if host_type(place.parent, place.name) == -ENOENT else EEXIST
    if error == ESUCCESS:
        error = -host_symlink(target, place.parent, place.name)
    _leave(&place)
    return error


cdef int32_t _two_places(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *source, uint64_t source_right,
    wasmtime_val_raw_t *target, uint64_t target_right, int32_t if_dots, place_t *places
) noexcept nogil:
    """Each from three raw values: a descriptor, and where its path is."""
    places[1].parent = -1
    cdef int32_t error = _place_for(
        guest, caller, source[0].i32, source_right, source[1].i32, source[2].i32, if_dots,
        &places[0])
    if error != ESUCCESS:
        return error
    return _place_for(
        guest, caller, target[0].i32, target_right, target[1].i32, target[2].i32, if_dots,
        &places[1])


cdef int32_t _path_rename(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    cdef place_t places[2]
    cdef int32_t kind, error = _two_places(
        guest, caller, values, RIGHT_RENAME_SOURCE, values + 3, RIGHT_RENAME_TARGET, EINVAL, places)
    if error == ESUCCESS and (places[0].slashed or places[1].slashed):
        kind = host_type(places[0].parent, places[0].name)
        error = -kind if kind < 0 else ESUCCESS if kind == FILE_DIRECTORY else ENOTDIR
    if error == ESUCCESS:
        error = -host_rename(
            places[0].parent, places[0].name, places[1].parent, places[1].name)
    _leave(&places[0])
    _leave(&places[1])
    return error


cdef int32_t _path_link(
    guest_t *guest, wasmtime_caller_t *caller, wasmtime_val_raw_t *values
) noexcept nogil:
    """A second name, of a link itself where it is one. Both directories must be granted for
    writing: a file that may only be read would get a name under which it may be written."""
    cdef place_t places[2]
    cdef wasmtime_val_raw_t source[3]
    if values[1].i32 != 0:
        return EINVAL
    source[0], source[1], source[2] = values[0], values[2], values[3]
    cdef int32_t error = _two_places(
        guest, caller, source, RIGHT_LINK_SOURCE, values + 4, RIGHT_LINK_TARGET, EEXIST, places)
    if error == ESUCCESS:
        error = _not_slashed(&places[0], ENOTDIR)
    if error == ESUCCESS:
        error = _not_slashed(&places[1], EEXIST)
    if error == ESUCCESS:
        error = -host_link(
            places[0].parent, places[0].name, places[1].parent, places[1].name)
    _leave(&places[0])
    _leave(&places[1])
    return error


cdef void wasi_path_rows(wasi_row_t row) noexcept:
    row(b"path_create_directory", b"iii", _path_create_directory)
    row(b"path_filestat_get", b"iiiii", _path_filestat_get)
    row(b"path_filestat_set_times", b"iiiiIIi", _path_set_times)
    row(b"path_link", b"iiiiiii", _path_link)
    row(b"path_open", b"iiiiiIIii", _path_open)
    row(b"path_readlink", b"iiiiii", _path_readlink)
    row(b"path_remove_directory", b"iii", _path_remove_directory)
    row(b"path_rename", b"iiiiii", _path_rename)
    row(b"path_symlink", b"iiiii", _path_symlink)
    row(b"path_unlink_file", b"iii", _path_unlink_file)

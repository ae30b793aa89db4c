/* Linux's file calls as WASI's: what a guest's path or descriptor comes down to.
 *
 * Rule: every path is resolved by the kernel beneath a directory's descriptor, by openat2; what acts
 * on a name (mkdir, rename, ...) is given the opened parent and one component that is no "." or
 * "..". Descriptors are never passed on to a program. An answer below 0 is a negated error number
 * of WASI preview 1. Nothing here looks at a guest: pointers were checked by the caller.
 */
#ifndef SPEAR_HOSTFILES_H
#define SPEAR_HOSTFILES_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_openat2
#define SYS_openat2 437 /* on every machine that has it */
#endif
#define BENEATH_TRIES 200 /* a rename anywhere in the system makes ".." ask again */

/* WASI's number of one of Linux's. */
static inline int32_t wasi_errno(int error)
{
    switch (error) {
    case 0: return 0;
    case E2BIG: return 1;
    case EACCES: return 2;
    case EAGAIN: return 6;
    case EBADF: return 8;
    case EBUSY: return 10;
    case EDQUOT: return 19;
    case EEXIST: return 20;
    case EFAULT: return 21;
    case EFBIG: return 22;
    case EINTR: return 27;
    case EINVAL: return 28;
    case EISDIR: return 31;
    case ELOOP: return 32;
    case EMFILE: return 33;
    case EMLINK: return 34;
    case ENAMETOOLONG: return 37;
    case ENFILE: return 41;
    case ENODEV: return 43;
    case ENOENT: return 44;
    case ENOLCK: return 46;
    case ENOMEM: return 48;
    case ENOSPC: return 51;
    case ENOSYS: return 52;
    case ENOTDIR: return 54;
    case ENOTEMPTY: return 55;
    case EOPNOTSUPP: return 58;
    case ENXIO: return 60;
    case EOVERFLOW: return 61;
    case EPERM: return 63;
    case EPIPE: return 64;
    case EROFS: return 69;
    case ESPIPE: return 70;
    case ESTALE: return 72;
    case ETXTBSY: return 74;
    case EXDEV: return 75;
    default: return 29; /* EIO, and what no file system is known to give */
    }
}

static inline int64_t answer_of(int64_t got) { return got >= 0 ? got : -wasi_errno(errno); }

/* A descriptor of what `path` names beneath `dir`. What leads out of it is EPERM. */
static inline int32_t host_open(int dir, const char *path, int flags, int mode)
{
    struct { uint64_t flags, mode, resolve; } how = {
        (uint64_t)(flags | O_CLOEXEC), (uint64_t)mode,
        0x08 | 0x02, /* RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS */
    };
    long fd = -1;
    int tries = 0;
    do
        fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++tries < BENEATH_TRIES);
    if (fd < 0 && errno == EXDEV)
        errno = EPERM;
    return (int32_t)answer_of(fd);
}

/* The directory that is to be granted; here the host's own path counts, so links are followed. */
static inline int32_t host_open_granted(const char *path)
{
    return (int32_t)open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static inline uint8_t filetype_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFBLK: return 1;
    case S_IFCHR: return 2;
    case S_IFDIR: return 3;
    case S_IFREG: return 4;
    case S_IFSOCK: return 6;
    case S_IFLNK: return 7;
    default: return 0; /* WASI knows no FIFO */
    }
}

static inline uint64_t stat_ns(struct timespec at)
{
    return at.tv_sec < 0 ? 0 : (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

/* WASI's filestat, which is all 64-bit numbers but for the type. */
static inline int32_t host_stat(int fd, uint64_t out[8])
{
    struct stat found;
    if (fstatat(fd, "", &found, AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0)
        return -wasi_errno(errno);
    out[0] = found.st_dev, out[1] = found.st_ino, out[2] = filetype_of(found.st_mode);
    out[3] = found.st_nlink, out[4] = (uint64_t)found.st_size;
    out[5] = stat_ns(found.st_atim), out[6] = stat_ns(found.st_mtim), out[7] = stat_ns(found.st_ctim);
    return 0;
}

/* The type of a descriptor's file, or of `name` in it where that is no "". */
static inline int32_t host_type(int fd, const char *name)
{
    struct stat found;
    int flags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
    return fstatat(fd, name, &found, flags) == 0 ? filetype_of(found.st_mode) : -wasi_errno(errno);
}

/* WASI's times and what of them to set: 1 and 4 the one given, 2 and 8 now. */
static inline int32_t host_set_times(int fd, uint64_t accessed, uint64_t modified, int which)
{
    struct timespec times[2] = {
        {(time_t)(accessed / 1000000000), (long)(accessed % 1000000000)},
        {(time_t)(modified / 1000000000), (long)(modified % 1000000000)},
    };
    if (which & ~15 || (which & 3) == 3 || (which & 12) == 12)
        return -wasi_errno(EINVAL);
    if (!(which & 1))
        times[0].tv_nsec = which & 2 ? UTIME_NOW : UTIME_OMIT;
    if (!(which & 4))
        times[1].tv_nsec = which & 8 ? UTIME_NOW : UTIME_OMIT;
    return (int32_t)answer_of(utimensat(fd, "", times, AT_EMPTY_PATH));
}

/* Data; `at` < 0: at the descriptor's own offset. */
static inline int64_t host_read(int fd, const struct iovec *parts, int count, int64_t at)
{
    return answer_of(at < 0 ? readv(fd, parts, count) : preadv(fd, parts, count, at));
}
static inline int64_t host_write(int fd, const struct iovec *parts, int count, int64_t at)
{
    return answer_of(at < 0 ? writev(fd, parts, count) : pwritev(fd, parts, count, at));
}
static inline int64_t host_seek(int fd, int64_t by, int whence)
{
    static const int known[] = {SEEK_SET, SEEK_CUR, SEEK_END};
    return whence < 0 || whence > 2 ? -wasi_errno(EINVAL) : answer_of(lseek(fd, by, known[whence]));
}
static inline int32_t host_sync(int fd, int data_only)
{
    return (int32_t)answer_of(data_only ? fdatasync(fd) : fsync(fd));
}
static inline int32_t host_set_size(int fd, int64_t size)
{
    return (int32_t)answer_of(ftruncate(fd, size));
}
static inline int32_t host_allocate(int fd, int64_t at, int64_t size)
{
    return (int32_t)answer_of(fallocate(fd, 0, at, size));
}
static inline int32_t host_set_append(int fd, int append)
{
    return (int32_t)answer_of(fcntl(fd, F_SETFL, append ? O_APPEND : 0));
}

/* Names; `dir` is an opened parent, `name` one component. */
static inline int32_t host_make_directory(int dir, const char *name)
{
    return (int32_t)answer_of(mkdirat(dir, name, 0777));
}
static inline int32_t host_remove(int dir, const char *name, int directory)
{
    return (int32_t)answer_of(unlinkat(dir, name, directory ? AT_REMOVEDIR : 0));
}
static inline int32_t host_rename(int from, const char *old, int to, const char *name)
{
    return (int32_t)answer_of(renameat(from, old, to, name));
}
static inline int32_t host_link(int from, const char *old, int to, const char *name)
{
    return (int32_t)answer_of(linkat(from, old, to, name, 0));
}
static inline int32_t host_symlink(const char *target, int dir, const char *name)
{
    return (int32_t)answer_of(symlinkat(target, dir, name));
}
/* Of a link that was opened itself, by O_PATH and O_NOFOLLOW. */
static inline int64_t host_read_link(int fd, char *out, uint64_t size)
{
    return answer_of(readlinkat(fd, "", out, size));
}

/* Entries of a directory from `cookie` on, as the kernel gives them; 0: no more. */
typedef struct {
    uint64_t inode, next;
    uint16_t record_bytes;
    uint8_t type;
    char name[1];
} host_entry;
static inline int64_t host_entries(int fd, int64_t cookie, char *out, uint64_t size)
{
    if (cookie >= 0 && lseek(fd, cookie, SEEK_SET) < 0)
        return -wasi_errno(errno);
    return answer_of(syscall(SYS_getdents64, fd, out, size));
}

/* How many descriptors this process may open. */
static inline int64_t host_descriptors_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT32_MAX)
        return INT32_MAX;
    return (int64_t)limit.rlim_cur;
}

#endif

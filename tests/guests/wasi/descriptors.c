// build: -nostdlib -fno-builtin
/* The corners of WASI's descriptors, with nothing but stdin, stdout and stderr open. Prints a line
 * for each wrong answer (to stdout, so as long as that is open); the exit code is their number.
 * Writes "two parts" and a newline to stdout in one call.
 */
#include "../raw.h"

static struct { uint8_t type; uint16_t flags; uint64_t base, inheriting; } stat;
static uint8_t prestat[8];
static char byte;

_Static_assert(sizeof stat == 24, "the size of WASI's fdstat");

START
{
    uint64_t at;
    uint32_t done = 99;
    iovec parts[3] = {{"two ", 4}, {"", 0}, {"parts\n", 6}};
    iovec one = {&byte, 1};

    for (int fd = 0; fd < 3; fd++) {
        expect("fdstat of a standard stream", wasi_fd_fdstat_get(fd, &stat), 0);
        expect("its type is a directory or a file", stat.type == 3 || stat.type == 4, 0);
        expect("seek on a standard stream", wasi_fd_seek(fd, 0, 1, &at), ESPIPE_);
    }
    expect("write in three parts", wasi_fd_write(1, parts, 3, &done), 0);
    expect("written in three parts", done, 10);
    expect("write of nothing", wasi_fd_write(1, parts, 0, &done), 0);
    expect("written of nothing", done, 0);
    expect("write to stdin succeeds", wasi_fd_write(0, parts, 1, &done) == 0, 0);
    expect("read from stdout succeeds", wasi_fd_read(1, &one, 1, &done) == 0, 0);

    expect("fdstat of 99", wasi_fd_fdstat_get(99, &stat), EBADF_);
    expect("seek on 99", wasi_fd_seek(99, 0, 1, &at), EBADF_);
    expect("write to 99", wasi_fd_write(99, parts, 1, &done), EBADF_);
    expect("read from 99", wasi_fd_read(99, &one, 1, &done), EBADF_);
    expect("close of 99", wasi_fd_close(99), EBADF_);
    expect("close of -1", wasi_fd_close(-1), EBADF_);
    expect("a directory", wasi_fd_prestat_get(3, prestat), EBADF_);
    expect("sched_yield", wasi_sched_yield(), 0);

    expect("close of stderr", wasi_fd_close(2), 0);
    expect("write to a closed one", wasi_fd_write(2, parts, 1, &done), EBADF_);
    expect("fdstat of a closed one", wasi_fd_fdstat_get(2, &stat), EBADF_);
    expect("close of a closed one", wasi_fd_close(2), EBADF_);
    expect("close of stdin", wasi_fd_close(0), 0);
    expect("read from a closed one", wasi_fd_read(0, &one, 1, &done), EBADF_);
    expect("close of stdout", wasi_fd_close(1), 0);
    failed_checks += wasi_fd_write(1, parts, 1, &done) != EBADF_;
    wasi_proc_exit(failed_checks);
}

// build: -nostdlib -fno-builtin
/* Hands WASI calls pointers outside memory: each must give EFAULT, none may write or crash.
 * Prints a line for each other answer; the exit code is their number.
 */
#include "../raw.h"

#define BAD ((void *)0xfffffff0u)

START
{
    char *end = (char *)(__builtin_wasm_memory_size(0) * 65536);
    uint32_t n;
    iovec beyond = {end - 4, 8}, wraps = {(char *)0xfffffff0u, 0x20}, good = {"", 0};

    expect("vector", wasi_fd_write(1, BAD, 1, &n), EFAULT_);
    expect("vector across the end", wasi_fd_write(1, (iovec *)(end - 4), 1, &n), EFAULT_);
    expect("-1 vectors succeed", wasi_fd_write(1, &good, -1, &n) == 0, 0);
    expect("bytes across the end", wasi_fd_write(1, &beyond, 1, &n), EFAULT_);
    expect("bytes that wrap", wasi_fd_write(1, &wraps, 1, &n), EFAULT_);
    expect("result", wasi_fd_write(1, &good, 1, BAD), EFAULT_);
    expect("read into bytes across the end", wasi_fd_read(0, &beyond, 1, &n), EFAULT_);
    expect("args_sizes_get", wasi_args_sizes_get(BAD, &n), EFAULT_);
    expect("args_get", wasi_args_get(BAD, BAD), EFAULT_);
    expect("environ_sizes_get", wasi_environ_sizes_get(&n, BAD), EFAULT_);
    expect("clock_time_get", wasi_clock_time_get(0, 0, (uint64_t *)(end - 4)), EFAULT_);
    expect("clock_res_get", wasi_clock_res_get(0, BAD), EFAULT_);
    expect("random_get", wasi_random_get(end - 4, 8), EFAULT_);
    expect("random_get of 4 GiB", wasi_random_get(0, 0xffffffffu), EFAULT_);
    expect("fd_fdstat_get", wasi_fd_fdstat_get(1, end - 8), EFAULT_);
    expect("poll_oneoff", wasi_poll_oneoff(BAD, end - 64, 1, &n), EFAULT_);
    wasi_proc_exit(failed_checks);
}

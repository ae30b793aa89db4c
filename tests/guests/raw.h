/* raw.h: WASI preview 1 without a C library, for guests of a few hundred bytes.
 * Everything is static; what a guest does not use is not in it. Build with -nostdlib -fno-builtin.
 */
#ifndef RAW_H
#define RAW_H

#include <stddef.h>
#include <stdint.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
#define START __attribute__((export_name("_start"))) void _start(void)

enum { EBADF_ = 8, EFAULT_ = 21, EINVAL_ = 28, ESPIPE_ = 70 }; /* WASI's numbers */

typedef struct { const void *at; uint32_t len; } iovec;

WASI("args_get") int32_t wasi_args_get(char **argv, char *bytes);
WASI("args_sizes_get") int32_t wasi_args_sizes_get(uint32_t *count, uint32_t *bytes);
WASI("environ_get") int32_t wasi_environ_get(char **env, char *bytes);
WASI("environ_sizes_get") int32_t wasi_environ_sizes_get(uint32_t *count, uint32_t *bytes);
WASI("clock_res_get") int32_t wasi_clock_res_get(int32_t id, uint64_t *ns);
WASI("clock_time_get") int32_t wasi_clock_time_get(int32_t id, int64_t precision, uint64_t *ns);
WASI("random_get") int32_t wasi_random_get(void *out, uint32_t len);
WASI("sched_yield") int32_t wasi_sched_yield(void);
WASI("fd_read") int32_t wasi_fd_read(int32_t fd, const iovec *v, int32_t n, uint32_t *done);
WASI("fd_write") int32_t wasi_fd_write(int32_t fd, const iovec *v, int32_t n, uint32_t *done);
WASI("fd_close") int32_t wasi_fd_close(int32_t fd);
WASI("fd_seek") int32_t wasi_fd_seek(int32_t fd, int64_t by, int32_t whence, uint64_t *at);
WASI("fd_fdstat_get") int32_t wasi_fd_fdstat_get(int32_t fd, void *stat24);
WASI("fd_prestat_get") int32_t wasi_fd_prestat_get(int32_t fd, void *prestat8);
WASI("poll_oneoff")
int32_t wasi_poll_oneoff(const void *in48, void *out32, uint32_t n, uint32_t *events);
WASI("proc_exit") _Noreturn void wasi_proc_exit(int32_t code);

static inline uint32_t text_len(const char *text)
{
    uint32_t len = 0;
    while (text[len])
        len++;
    return len;
}

/* Writes all bytes; gives WASI's error number. */
static inline int32_t write_all(int32_t fd, const void *bytes, uint32_t len)
{
    const char *at = bytes;
    while (len > 0) {
        iovec v = {at, len};
        uint32_t done = 0;
        int32_t error = wasi_fd_write(fd, &v, 1, &done);
        if (error)
            return error;
        at += done;
        len -= done;
    }
    return 0;
}

static inline void print(const char *text)
{
    write_all(1, text, text_len(text));
}

static inline void print_number(int64_t value)
{
    char digits[24];
    uint32_t at = sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        digits[--at] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        digits[--at] = '-';
    write_all(1, digits + at, (uint32_t)sizeof digits - at);
}

static inline int64_t to_number(const char *text)
{
    int64_t value = 0;
    int negative = *text == '-';
    for (text += negative; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    return negative ? -value : value;
}

/* Room of any size at the end of memory; ends the guest with 99 if there is none. */
static inline void *room(uint32_t bytes)
{
    uint32_t pages = __builtin_wasm_memory_grow(0, (bytes + 65535) / 65536);
    if (pages == (uint32_t)-1)
        wasi_proc_exit(99);
    return (void *)(pages * 65536);
}

/* argv, NULL-terminated. */
static inline char **arguments(uint32_t *count)
{
    uint32_t bytes;
    if (wasi_args_sizes_get(count, &bytes))
        wasi_proc_exit(98);
    char **argv = room((*count + 1) * 4 + bytes);
    if (wasi_args_get(argv, (char *)(argv + *count + 1)))
        wasi_proc_exit(98);
    argv[*count] = 0;
    return argv;
}

/* The number that argument i is, else the default. */
static inline int64_t argument(uint32_t i, int64_t otherwise)
{
    uint32_t count;
    char **argv = arguments(&count);
    return i < count ? to_number(argv[i]) : otherwise;
}

/* Counts a check; a failed one prints "name: got G, not W". */
static int failed_checks;

static inline void expect(const char *name, int64_t got, int64_t want)
{
    if (got == want)
        return;
    failed_checks++;
    print(name);
    print(": got ");
    print_number(got);
    print(", not ");
    print_number(want);
    print("\n");
}

#endif

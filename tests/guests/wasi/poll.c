// build: -nostdlib -fno-builtin
/* poll_oneoff by hand. Prints a line for each wrong answer; the exit code is their number. */
#include "../raw.h"

typedef struct {
    uint64_t userdata;
    uint8_t tag; /* 0 clock, 1 fd_read, 2 fd_write */
    union {
        struct { uint32_t id; uint64_t timeout_ns, precision_ns; uint16_t flags; } clock;
        struct { uint32_t fd; } file;
    };
} subscription;

typedef struct {
    uint64_t userdata;
    uint16_t error;
    uint8_t type;
    uint64_t bytes;
    uint16_t flags;
} event;

_Static_assert(sizeof(subscription) == 48 && sizeof(event) == 32, "sizes of the WASI structs");

#define MS 1000000ull

static uint64_t now(int32_t id)
{
    uint64_t ns = 0;
    wasi_clock_time_get(id, 0, &ns);
    return ns;
}

static subscription after(uint64_t userdata, uint32_t clock, uint64_t timeout_ns, uint16_t flags)
{
    subscription s = {.userdata = userdata};
    s.clock.id = clock;
    s.clock.timeout_ns = timeout_ns;
    s.clock.flags = flags;
    return s;
}

START
{
    subscription in[2] = {after(7, 1, 60000 * MS, 0), after(8, 1, 10 * MS, 0)};
    event out[2];
    uint32_t n = 9;
    uint64_t start = now(1);
    expect("two clocks", wasi_poll_oneoff(in, out, 2, &n), 0);
    expect("two clocks: events", n, 1);
    expect("two clocks: which", (int64_t)out[0].userdata, 8);
    expect("two clocks: error", out[0].error, 0);
    expect("two clocks: type", out[0].type, 0);
    expect("two clocks: too early", now(1) - start < 10 * MS, 0);

    in[0] = after(9, 0, now(0) + 5 * MS, 1);
    expect("a moment of the realtime clock", wasi_poll_oneoff(in, out, 1, &n), 0);
    expect("a moment: events", n, 1);
    expect("a moment: which", (int64_t)out[0].userdata, 9);

    in[0] = after(10, 1, 0, 0);
    expect("at once", wasi_poll_oneoff(in, out, 1, &n), 0);
    expect("at once: events", n, 1);

    in[0] = after(11, 1, 60000 * MS, 0);
    in[1] = (subscription){.userdata = 12, .tag = 2};
    in[1].file.fd = 1;
    expect("room in stdout", wasi_poll_oneoff(in, out, 2, &n), 0);
    expect("room in stdout: events", n, 1);
    expect("room in stdout: which", (int64_t)out[0].userdata, 12);
    expect("room in stdout: type", out[0].type, 2);

    expect("no subscription", wasi_poll_oneoff(in, out, 0, &n), EINVAL_);
    wasi_proc_exit(failed_checks);
}

// build: -nostdlib -fno-builtin
/* WASI's clocks and randomness. Prints a line for each wrong answer, and last the realtime clock in
 * seconds and 16 random bytes in hex; the exit code is the number of wrong answers.
 */
#include "../raw.h"

static uint64_t clock(int32_t id)
{
    uint64_t ns = 0;
    expect("clock_time_get", wasi_clock_time_get(id, 0, &ns), 0);
    return ns;
}

static uint8_t random[16], other[16];

START
{
    uint64_t ns = 0, first = clock(1);
    expect("a clock that goes back", clock(1) < first, 0);
    expect("the resolution of realtime", wasi_clock_res_get(0, &ns), 0);
    expect("a resolution of 0", ns == 0, 0);
    expect("an unknown clock", wasi_clock_time_get(99, 0, &ns), EINVAL_);
    expect("random_get", wasi_random_get(random, 16), 0);
    expect("random_get again", wasi_random_get(other, 16), 0);
    expect("random_get of nothing", wasi_random_get(other, 0), 0);
    int equal = 0;
    for (int i = 0; i < 16; i++)
        equal += random[i] == other[i];
    expect("equal random bytes", equal == 16, 0);
    print_number((int64_t)(clock(0) / 1000000000));
    print(" ");
    for (int i = 0; i < 32; i++)
        write_all(1, &"0123456789abcdef"[i & 1 ? random[i / 2] & 15 : random[i / 2] >> 4], 1);
    print("\n");
    wasi_proc_exit(failed_checks);
}

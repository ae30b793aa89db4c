// build: -nostdlib -fno-builtin
/* Argument: MS to sleep (20). Prints "time_now_ms wall_time_s random random elapsed_ms" where the
 * last is what time_now_ms says of the sleep. Exit code 0; 1 if the two clocks disagree.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

static void field(int64_t value, const char *end)
{
    print_number(value);
    print(end);
}

START
{
    int32_t ms = (int32_t)argument(1, 20);
    int64_t now_ms = sp_time_now_ms(), now_s = sp_wall_time_s(), gap = now_s - now_ms / 1000;
    field(now_ms, " ");
    field(now_s, " ");
    field(sp_random_i64(), " ");
    field(sp_random_i64(), " ");
    now_ms = sp_time_now_ms();
    sp_sleep_ms(ms);
    field(sp_time_now_ms() - now_ms, "\n");
    wasi_proc_exit(gap < 0 || gap > 1);
}

/* A runaway: computes for ever, or for as many seconds as its argument says.
 * For ever means a pure loop without a single call to the host.
 */
#include <spear.h>
#include <stdlib.h>

static volatile unsigned long steps;

__attribute__((noinline)) static void spin(long count)
{
    while (count-- > 0)
        steps = steps * 1664525u + 1013904223u;
}

__attribute__((noinline)) static void run_away(void)
{
    for (;;)
        steps++;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 0;
    if (seconds <= 0) {
        sp_log_str(SPEAR_INFO, "looping for ever");
        run_away();
    }
    int64_t end_ms = sp_time_now_ms() + (int64_t)(seconds * 1000);
    while (sp_time_now_ms() < end_ms)
        spin(1000000);
    puts("done");
    return 0;
}

/* An agent that waits: sleeps as many milliseconds as its argument says (1000; negative: for ever).
 * While it sleeps it costs its host no thread.
 */
#include <spear.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    int ms = argc > 1 ? atoi(argv[1]) : 1000;
    sp_logf(SPEAR_INFO, "going to sleep for %d ms", ms);
    sp_sleep_ms(ms);
    sp_log_str(SPEAR_INFO, "awake");
    puts("slept well");
    return 0;
}

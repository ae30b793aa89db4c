/* The smallest useful agent: it logs, tells the time, greets and ends. */
#include <spear.h>
#include <stdio.h>

int main(void)
{
    sp_log_str(SPEAR_INFO, "hello from a guest");
    sp_logf(SPEAR_INFO, "the time is %lld ms", (long long)sp_time_now_ms());
    puts("Hello, SPEAR!");
    return 0;
}

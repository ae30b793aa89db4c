// build: -Wl,-z,stack-size=16777216
/* The classic shape asleep: 257 pages, libc with printf, and it waits for ever. */
#include <spear.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    sp_logf(SPEAR_INFO, "%s with %d arguments goes to sleep", argv[0], argc - 1);
    sp_sleep_ms(-1);
    puts("slept well");
    return 0;
}

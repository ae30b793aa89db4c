/* A C program that sleeps by usleep and nanosleep, MS (20) each: the C library calls poll_oneoff.
 * Exit code 0; 1 if less time passed than asked for, 2 if a call failed.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
    long ms = argc > 1 ? atol(argv[1]) : 20;
    struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
    long long start = now_ns();
    if (usleep((unsigned)ms * 1000) != 0 || nanosleep(&rest, NULL) != 0)
        return 2;
    return now_ns() - start < ms * 2000000LL;
}

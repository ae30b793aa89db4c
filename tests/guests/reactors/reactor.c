// build: -mexec-model=reactor -Wl,--export=count -Wl,--export=nap -Wl,--export=say -Wl,--export=spin -Wl,--export=boom -Wl,--export=leave -Wl,--export=mix -Wl,--export=ready
/* A reactor: initialized once, its functions called often. `nap` waits inside a call. */
#include <spear.h>
#include <stdlib.h>

static int64_t calls;
static int initialized;

__attribute__((constructor)) static void prepare(void)
{
    initialized = 1;
}

int32_t ready(void)
{
    return initialized;
}

int64_t count(void)
{
    return ++calls;
}

int64_t nap(int32_t ms)
{
    calls++;
    sp_log_str(SPEAR_INFO, "napping");
    sp_sleep_ms(ms);
    return calls;
}

void say(int32_t number)
{
    printf("number %d\n", number);
    fflush(stdout);
    sp_log_str(SPEAR_INFO, "said");
}

int64_t spin(void)
{
    for (;;)
        __asm__ volatile("");
}

void boom(void)
{
    __builtin_trap();
}

void leave(int32_t code)
{
    exit(code);
}

double mix(int32_t a, int64_t b, float c, double d)
{
    return a + (double)b + c + d;
}

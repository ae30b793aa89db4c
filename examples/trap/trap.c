/* A guest that goes wrong three calls deep, so that the trap's backtrace has something to show.
 *
 * Argument: "memory" (the default) reads outside its memory, "unreachable" runs into code that
 * must never run, "divide" divides by zero.
 */
#include <spear.h>
#include <string.h>

#define KEEP __attribute__((noinline)) /* a function that was inlined has no frame of its own */

/* Offsets into the price list; the last one is a mistake. */
static volatile unsigned offsets[] = {0, 4, 0x7ffffff0};
static volatile int zero = 0;

KEEP static int read_price(unsigned offset)
{
    return *(volatile int *)(offset + 1024);
}

KEEP static int price_of(int item, const char *how)
{
    if (strcmp(how, "unreachable") == 0)
        __builtin_trap();
    if (strcmp(how, "divide") == 0)
        return 100 / zero;
    return read_price(offsets[item]);
}

KEEP static int sum_prices(const char *how)
{
    volatile int sum = 0;
    for (int item = 0; item < 3; item++)
        sum += price_of(item, how);
    return sum;
}

int main(int argc, char **argv)
{
    sp_log_str(SPEAR_INFO, "adding prices");
    return sum_prices(argc > 1 ? argv[1] : "memory") != 0;
}

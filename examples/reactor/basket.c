// build: -mexec-model=reactor
/* A reactor: it has no main; it is initialized once, and the host calls its functions as often as
 * it likes. What they leave in memory is there at the next call.
 */
#include <spear.h>

#define EXPORT(name) __attribute__((export_name(name)))

static int64_t items;
static double total;

/* Puts `count` pieces of `price` into the basket; gives how many are in it. */
EXPORT("put") int64_t put(int32_t count, double price)
{
    items += count;
    total += count * price;
    return items;
}

/* What all in the basket cost. */
EXPORT("total") double total_of_all(void)
{
    return total;
}

/* The same, `percent` off, from a shop that takes its time. */
EXPORT("quote") double quote(int32_t percent, int32_t wait_ms)
{
    sp_logf(SPEAR_INFO, "asking for %d %% off", (int)percent);
    sp_sleep_ms(wait_ms);
    return total * (100 - percent) / 100;
}

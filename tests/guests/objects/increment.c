// build: -nostdlib -fno-builtin
/* Adds 1 to the number under a name, as often as asked: increment NAME TIMES. The number is eight
 * bytes; who changes it meanwhile makes the put fail, and the guest reads again. Now and then it lets
 * others in between. Exit code 0, or 1 for an answer that should not come. Prints how often it had
 * to read again.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

static int64_t again;

static int add_one(const char *name, int32_t len)
{
    for (;; again++) {
        int64_t value = 0, version = SPEAR_MUST_NOT_EXIST;
        uint32_t size = sizeof value;
        int32_t got = sp_object_get(name, len, &value, &size, &version);
        if (got != sizeof value && got != -SPEAR_ENOENT)
            return 0;
        value++;
        if (value % 8 == 0)
            wasi_sched_yield();
        int32_t put = sp_object_put(name, len, &value, sizeof value, version, 0, NULL);
        if (put == 0)
            return 1;
        if (put != -SPEAR_ESTALE && put != -SPEAR_EEXIST)
            return 0;
    }
}

START
{
    uint32_t count;
    char **argv = arguments(&count);
    int64_t times = count > 2 ? to_number(argv[2]) : 0;
    for (int64_t i = 0; i < times; i++)
        if (!add_one(argv[1], (int32_t)text_len(argv[1])))
            wasi_proc_exit(1);
    print_number(again);
    wasi_proc_exit(0);
}

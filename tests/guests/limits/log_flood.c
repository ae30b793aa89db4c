// build: -nostdlib -fno-builtin
/* Arguments: ENTRIES (10,000) [BYTES (13)]. Logs so many entries, each "line NNNNNNNN" and dots up
 * to BYTES. Exit code 0; 3 if a log call failed.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

static char entry[SPEAR_LOG_BYTES_MAX];

START
{
    int64_t entries = argument(1, 10000);
    int32_t bytes = (int32_t)argument(2, 13);
    for (uint32_t i = 0; i < sizeof entry; i++)
        entry[i] = i < 5 ? "line "[i] : '.';
    for (int64_t i = 0; i < entries; i++) {
        int64_t rest = i;
        for (int digit = 12; digit >= 5; digit--, rest /= 10)
            entry[digit] = (char)('0' + rest % 10);
        if (sp_log(SPEAR_INFO, entry, bytes))
            wasi_proc_exit(3);
    }
    wasi_proc_exit(0);
}

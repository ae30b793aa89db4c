// build waiter_small: -nostdlib -fno-builtin
// build waiter_large: -nostdlib -fno-builtin -Wl,-z,stack-size=16777216
/* Asks a model and waits for its answer or, called with an argument, waits for nothing at all.
 * Built twice: with a stack of 64 KiB, and with the linker's default of 16 MiB, which lies first.
 */
#include "../raw.h"
#define SPEAR_NO_STDIO
#include <spear.h>

START
{
    uint32_t count = 0, bytes = 0;
    wasi_args_sizes_get(&count, &bytes);
    if (count > 1)
        sp_sleep_ms(-1);
    int32_t chat = sp_cchat_create();
    sp_cchat_write_msg(chat, "user", 4, "hello", 5);
    sp_cchat_send(chat, 0);
}

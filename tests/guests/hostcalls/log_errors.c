// build: -nostdlib -fno-builtin
/* Calls log with good and bad levels, pointers and lengths. Prints each answer that is not the
 * contract's; the exit code is their number. Logged meanwhile: 8 entries, in the order below.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

static char dots[SPEAR_LOG_BYTES_MAX + 1];

START
{
    uintptr_t end = __builtin_wasm_memory_size(0) * 65536;
    char *last = (char *)(end - 5);
    for (uint32_t i = 0; i < sizeof dots; i++)
        dots[i] = '.';
    for (int i = 0; i < 5; i++)
        last[i] = "brink"[i];

    expect("plain", sp_log(SPEAR_WARN, "plain", 5), 0);
    expect("level -1", sp_log(-1, "level -1", 8), 0);
    expect("level 99", sp_log(99, "level 99", 8), 0);
    expect("not UTF-8", sp_log(SPEAR_INFO, "a\xff\xfe" "b", 4), 0);
    expect("a NUL and a newline", sp_log(SPEAR_INFO, "a\0b\nc", 5), 0);
    expect("empty", sp_log(SPEAR_INFO, "", 0), 0);
    expect("longest", sp_log(SPEAR_INFO, dots, SPEAR_LOG_BYTES_MAX), 0);
    expect("last bytes of memory", sp_log(SPEAR_INFO, last, 5), 0);

    expect("too long", sp_log(SPEAR_INFO, dots, SPEAR_LOG_BYTES_MAX + 1), -SPEAR_EINVAL);
    expect("longest int", sp_log(SPEAR_INFO, dots, INT32_MAX), -SPEAR_EINVAL);
    expect("length -1", sp_log(SPEAR_INFO, dots, -1), -SPEAR_EINVAL);
    expect("length minimum", sp_log(SPEAR_INFO, dots, INT32_MIN), -SPEAR_EINVAL);
    expect("pointer -1", sp_log(SPEAR_INFO, (char *)-1, 5), -SPEAR_EFAULT);
    expect("pointer minimum", sp_log(SPEAR_INFO, (char *)0x80000000u, 5), -SPEAR_EFAULT);
    expect("pointer beyond", sp_log(SPEAR_INFO, (char *)0x7ffffff0u, 5), -SPEAR_EFAULT);
    expect("pointer at the end", sp_log(SPEAR_INFO, (char *)end, 1), -SPEAR_EFAULT);
    expect("one byte over the end", sp_log(SPEAR_INFO, last, 6), -SPEAR_EFAULT);
    wasi_proc_exit(failed_checks);
}
